//! OpenSSH's certificates (PROTOCOL.certkeys): what one that a known authority signed lets its holder do.
//!
//! `russh` has checked by then that the signatures are right and that the time of this machine lies in the
//! certificate's validity: see docs/rescue.md for what that is worth without a clock.

use std::net::IpAddr;

use russh::keys::Certificate;
use russh::keys::ssh_key::Algorithm;
use russh::keys::ssh_key::certificate::CertType;

use super::address_list::AddressList;
use super::key_options::KeyOptions;
use super::key_strength;
use super::permissions::Permissions;

/// What a login of `user` from `from` may do with this certificate, of whose authority `options` are.
///
/// # Errors
/// Why the certificate does not let them in, for a human.
pub fn permissions(
    certificate: &Certificate,
    options: &KeyOptions,
    user: &str,
    from: IpAddr,
) -> Result<Permissions, String> {
    check_kind(certificate)?;
    check_principal(certificate, options, user)?;
    let mut command = None;
    for (name, value) in certificate.critical_options().iter() {
        match name.as_str() {
            "force-command" => command = Some(value.clone()),
            "source-address" => {
                let list =
                    AddressList::from_networks(value).map_err(|error| format!("source-address: {error}"))?;
                if !list.contains(from) {
                    return Err(format!("its source-address {value:?} does not have {from}"));
                }
            }
            other => return Err(format!("its critical option {other:?} is not supported")),
        }
    }
    let mut permissions = options.permissions.clone();
    permissions.command = match (permissions.command.take(), command) {
        (Some(ours), Some(theirs)) if ours != theirs => {
            return Err("its force-command is not the command= of its authority's line".into());
        }
        (ours, theirs) => ours.or(theirs),
    };
    let extension = |name: &str| certificate.extensions().contains_key(name);
    permissions.pty &= extension("permit-pty");
    permissions.forwarding.allowed &= extension("permit-port-forwarding");
    Ok(permissions)
}

fn check_kind(certificate: &Certificate) -> Result<(), String> {
    if certificate.cert_type() != CertType::User {
        return Err("it is a host's and not a user's".into());
    }
    if matches!(certificate.signature().algorithm(), Algorithm::Rsa { hash: None } | Algorithm::Dsa) {
        return Err("its authority signed it with SHA-1".into());
    }
    key_strength::check(certificate.public_key())
}

/// An empty list is one of nobody: sshd once took it for everybody.
fn check_principal(certificate: &Certificate, options: &KeyOptions, user: &str) -> Result<(), String> {
    let names = certificate.valid_principals();
    let known = match &options.principals {
        Some(wanted) => names.iter().any(|name| wanted.contains(name)),
        None => names.iter().any(|name| name == user),
    };
    if known {
        return Ok(());
    }
    let wanted = options.principals.as_ref().map_or_else(|| user.to_string(), |wanted| wanted.join(","));
    Err(format!("its principals {names:?} do not have {wanted}"))
}

#[cfg(test)]
mod tests {
    use russh::keys::PrivateKey;
    use russh::keys::key::safe_rng;
    use russh::keys::ssh_key::certificate::Builder;

    use super::*;

    fn judged(kind: CertType, change: impl Fn(&mut Builder)) -> Result<Permissions, String> {
        let key = |algorithm| PrivateKey::random(&mut safe_rng(), algorithm).unwrap();
        let mut builder =
            Builder::new(vec![7; 16], key(Algorithm::Ed25519).public_key().clone(), 0, u64::MAX >> 1)
                .unwrap();
        builder.cert_type(kind).unwrap().valid_principal("root").unwrap();
        change(&mut builder);
        let certificate = builder.sign(&key(Algorithm::Ed25519)).unwrap();
        permissions(&certificate, &KeyOptions::parse("cert-authority").unwrap(), "root", [10, 0, 0, 1].into())
    }

    #[test]
    fn a_certificate_without_extensions_has_no_terminal() {
        assert!(!judged(CertType::User, |_| {}).unwrap().pty);
        assert!(
            judged(CertType::User, |builder| _ = builder.extension("permit-pty", "").unwrap()).unwrap().pty
        );
    }

    #[test]
    fn a_hosts_certificate_is_refused() {
        assert!(judged(CertType::Host, |_| {}).unwrap_err().contains("a host's"));
    }

    #[test]
    fn a_source_address_that_cannot_be_read_is_refused() {
        let from = |value: &'static str| {
            judged(CertType::User, |builder| _ = builder.critical_option("source-address", value).unwrap())
        };
        assert!(from("10.0.0.0/8").is_ok() && from("11.0.0.0/8").is_err());
        assert!(from("10.0.0.0/8,!10.0.0.2").unwrap_err().contains("source-address"));
    }
}
