//! Passphrases that opened a device, kept in root's keyring in the kernel (keyrings(7)) so that `rescue boot --kexec` can pass
//! them on to the kernel of the disk and nobody types one twice. They stay for a quarter of an hour at most, only on a
//! system that has kexec, and not beyond a boot into a disk. The vm tier's test
//! `a_debian_on_an_encrypted_disk_boots_by_its_own_kernel` holds that once is enough.

use anyhow::{Context, Result};
use linux_keyutils::{
    Key, KeyError, KeyPermissions, KeyPermissionsBuilder, KeyRing, KeyRingIdentifier, LinkNode, Permission,
};
use zeroize::Zeroizing;

use super::passphrase::Passphrase;

/// Seconds.
const KEPT: usize = 900;
/// The kernel takes no more into a key of the type "user" (`security/keys/user_defined.c`).
const LIMIT: usize = 32_767;
/// What our keys' names begin with.
const PREFIX: &str = "lifeboat:luks:";
/// More keys than root has here.
const LINKS_LIMIT: usize = 1024;

/// Keeps what opens the LUKS device with this UUID. `false`: it is too long for the kernel.
///
/// # Errors
/// When the kernel has no keyrings, or they are full.
pub fn keep(uuid: &str, passphrase: &Passphrase) -> Result<bool> {
    let bytes = passphrase.bytes();
    if bytes.is_empty() || bytes.len() > LIMIT {
        return Ok(false);
    }
    let key = ring()
        .and_then(|ring| ring.add_key(&name(uuid), bytes))
        .context("keeping the passphrase in the kernel's keyring")?;
    let limited = key.set_timeout(KEPT).and_then(|()| key.set_perms(for_root()));
    limited
        .or_else(|error| key.invalidate().and(Err(error)))
        .context("limiting a key of the kernel's keyring")?;
    Ok(true)
}

/// What opens the LUKS device with this UUID, if it is known.
///
/// # Errors
/// When it is known and cannot be read.
pub fn known(uuid: &str) -> Result<Option<Passphrase>> {
    let Some(key) = find(uuid) else { return Ok(None) };
    let mut bytes = Zeroizing::new(vec![0; LIMIT]);
    let count = key.read(&mut *bytes).context("reading a passphrase from the kernel's keyring")?;
    bytes.truncate(count);
    Ok(Some(Passphrase::from(bytes)))
}

/// Forgets all of them.
pub fn forget() {
    let ours = |key: &Key| key.metadata().is_ok_and(|data| data.get_description().starts_with(PREFIX));
    let Ok(links) = ring().and_then(|ring| ring.get_links(LINKS_LIMIT)) else { return };
    for key in links.iter().filter_map(LinkNode::as_key).filter(ours) {
        let _ = key.invalidate();
    }
}

fn find(uuid: &str) -> Option<Key> {
    ring().and_then(|ring| ring.search(&name(uuid))).ok()
}

fn ring() -> Result<KeyRing, KeyError> {
    KeyRing::from_special_id(KeyRingIdentifier::User, true)
}

/// Another session of root is no "possessor" by the kernel's rules, but root.
fn for_root() -> KeyPermissions {
    KeyPermissionsBuilder::builder().posessor(Permission::ALL).user(Permission::ALL).build()
}

fn name(uuid: &str) -> String {
    format!("{PREFIX}{}", uuid.to_ascii_lowercase())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_kernel_would_not_take_is_not_kept() {
        for bytes in [Vec::new(), vec![b'x'; LIMIT + 1]] {
            assert!(!keep("test", &Passphrase::from(Zeroizing::new(bytes))).unwrap());
        }
    }
}
