//! A whole `authorized_keys`: it is read, and each key in it asks for what it may do.
#![no_main]

use libfuzzer_sys::fuzz_target;
use rescue_tools::sshd::authorized_keys::AuthorizedKeys;

fuzz_target!(|text: &str| {
    let keys = AuthorizedKeys::parse(text);
    assert!(keys.keys.len() + keys.refused.len() <= text.lines().count());
    for known in &keys.keys {
        let permissions = keys.permissions(&known.key, [10, 0, 0, 1].into());
        assert!(!known.options.cert_authority || permissions.is_err() || keys.keys.len() > 1);
    }
});
