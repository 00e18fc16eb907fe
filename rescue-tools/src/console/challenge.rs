//! Who holds a key that may log in by SSH shows it: by a signature of a text that was never asked for before
//! (`ssh-keygen -Y sign`; OpenSSH's PROTOCOL.sshsig). Nothing secret goes over the line, and the text names the machine:
//! what was signed for one opens no other.

use russh::keys::ssh_key::{Algorithm, PublicKey, SshSig};

use crate::sshd::authorized_keys::AuthorizedKeys;

/// What a signature must have been made for. A signature of a file or of a commit has another one.
pub const NAMESPACE: &str = "lifeboat-console";
/// The first line of a signature.
pub const BEGIN: &str = "-----BEGIN SSH SIGNATURE-----";
/// Its last line.
pub const END: &str = "-----END SSH SIGNATURE-----";
/// No signature is longer: one by RSA with 16384 bits has 6 KiB.
pub const SIGNATURE_LIMIT: usize = 8 << 10;

/// A text to sign, once.
#[derive(Debug)]
pub struct Challenge {
    text: String,
}

impl Challenge {
    /// A new one for the machine `serial`, with 128 random bits.
    ///
    /// # Errors
    /// When the kernel gives no random numbers.
    pub fn new(serial: &str) -> rustix::io::Result<Self> {
        let mut random = [0; 16];
        rustix::io::retry_on_intr(|| {
            rustix::rand::getrandom(&mut random, rustix::rand::GetRandomFlags::empty())
        })?;
        let random: String = random.iter().map(|byte| format!("{byte:02x}")).collect();
        let serial: String = serial.chars().filter(char::is_ascii_alphanumeric).take(32).collect();
        Ok(Challenge { text: format!("{serial}-{random}") })
    }

    /// The command that signs it, for a shell on the person's own machine.
    pub fn command(&self) -> String {
        format!("echo {} | ssh-keygen -Y sign -n {NAMESPACE} -f ~/.ssh/id_ed25519", self.text)
    }

    /// Takes a signature: the fingerprint of the key that made it.
    ///
    /// # Errors
    /// Why it lets nobody in, for a human.
    pub fn check(self, signature: &str, keys: &AuthorizedKeys) -> Result<String, String> {
        let signature = SshSig::from_pem(signature).map_err(|error| format!("it cannot be read: {error}"))?;
        let key = PublicKey::from(signature.public_key().clone());
        let fingerprint = key.fingerprint(Default::default()).to_string();
        if !may_log_in(&key, keys) {
            return Err(format!("the key {fingerprint} may not log in here"));
        }
        if signature.namespace() != NAMESPACE {
            return Err(format!("it was made for {:?}, not for {NAMESPACE:?}", signature.namespace()));
        }
        // SHA-1; PROTOCOL.sshsig forbids it as well.
        if signature.algorithm() == (Algorithm::Rsa { hash: None }) {
            return Err("it was made with SHA-1".into());
        }
        // `echo` ends the text with a newline, `printf` does not.
        let signed = [format!("{}\n", self.text), self.text];
        let is_good = signed.iter().any(|text| key.verify(NAMESPACE, text.as_bytes(), &signature).is_ok());
        if is_good { Ok(fingerprint) } else { Err("it is not of this text".into()) }
    }
}

/// Whether `key` may log in from anywhere, to a shell on a terminal: a cable has no address for `from=`.
fn may_log_in(key: &PublicKey, keys: &AuthorizedKeys) -> bool {
    keys.keys.iter().filter(|known| known.key.key_data() == key.key_data()).any(|known| {
        let (options, permissions) = (&known.options, &known.options.permissions);
        !options.cert_authority && options.from.is_none() && permissions.command.is_none() && permissions.pty
    })
}

#[cfg(test)]
mod tests {
    use std::path::Path;
    use std::process::{Command, Stdio};

    use proptest::prelude::*;

    use super::*;

    /// Signs as the person is told to, with the key `key`.
    fn sign(challenge: &Challenge, key: &Path, namespace: &str) -> String {
        let command = challenge.command();
        let command = command.replace("~/.ssh/id_ed25519", key.to_str().unwrap());
        let command = command.replace(NAMESPACE, namespace);
        let output = Command::new("sh").args(["-c", &command]).stderr(Stdio::inherit()).output().unwrap();
        assert!(output.status.success(), "ssh-keygen (Debian package: openssh-client)");
        String::from_utf8(output.stdout).unwrap()
    }

    fn keygen(folder: &Path, kind: &str, bits: &str) -> (std::path::PathBuf, AuthorizedKeys) {
        let key = folder.join(kind);
        let mut command = Command::new("ssh-keygen");
        command.args(["-q", "-t", kind, "-b", bits, "-N", "", "-f"]).arg(&key);
        assert!(command.status().unwrap().success());
        let public = std::fs::read_to_string(key.with_extension("pub")).unwrap();
        (key, AuthorizedKeys::parse(&public))
    }

    #[test]
    fn openssh_signs_with_each_kind_of_key() {
        let folder = tempfile::tempdir().unwrap();
        for (kind, bits) in [("ed25519", "256"), ("ecdsa", "256"), ("ecdsa", "521"), ("rsa", "2048")] {
            let folder = tempfile::tempdir_in(folder.path()).unwrap();
            let (key, keys) = keygen(folder.path(), kind, bits);
            let challenge = Challenge::new("10000000abcdef01").unwrap();
            let signature = sign(&challenge, &key, NAMESPACE);
            assert!(signature.starts_with(BEGIN) && signature.len() < SIGNATURE_LIMIT);
            let fingerprint = challenge.check(&signature, &keys).unwrap();
            assert!(fingerprint.starts_with("SHA256:"), "{fingerprint}");
        }
    }

    #[test]
    fn a_signature_opens_nothing_else() {
        let folder = tempfile::tempdir().unwrap();
        let (key, keys) = keygen(folder.path(), "ed25519", "256");
        let challenge = Challenge::new("1").unwrap();
        let signature = sign(&challenge, &key, NAMESPACE);
        let refused = |challenge: Challenge, signature: &str, keys: &AuthorizedKeys| {
            challenge.check(signature, keys).unwrap_err()
        };
        assert_eq!(refused(Challenge::new("1").unwrap(), &signature, &keys), "it is not of this text");
        let stranger = AuthorizedKeys::default();
        assert!(
            refused(Challenge { text: challenge.text.clone() }, &signature, &stranger)
                .contains("may not log in")
        );
        let public = std::fs::read_to_string(key.with_extension("pub")).unwrap();
        for options in ["from=\"10.0.0.0/8\"", "command=\"true\"", "restrict", "no-pty", "cert-authority"] {
            let limited = AuthorizedKeys::parse(&format!("{options} {public}"));
            assert_eq!(limited.keys.len(), 1, "{options}");
            let again = Challenge { text: challenge.text.clone() };
            assert!(refused(again, &signature, &limited).contains("may not log in"), "{options}");
        }
        let file = sign(&challenge, &key, "file");
        assert!(refused(Challenge { text: challenge.text.clone() }, &file, &keys).contains("\"file\""));
        let cut = signature.get(..signature.len() / 2).unwrap();
        assert!(refused(challenge, cut, &keys).contains("cannot be read"));
    }

    proptest! {
        #[test]
        fn any_text_is_no_signature(text in "(?s).{0,300}") {
            let pem = format!("{BEGIN}\n{text}\n{END}\n");
            for text in [text.as_str(), &pem] {
                prop_assert!(Challenge::new("1").unwrap().check(text, &AuthorizedKeys::default()).is_err());
            }
        }
    }
}
