//! A certificate, with whatever it says, before a line of an authority.
#![no_main]

use libfuzzer_sys::fuzz_target;
use rescue_tools::sshd::certificate::permissions;
use rescue_tools::sshd::key_options::KeyOptions;
use russh::keys::Certificate;

fuzz_target!(|bytes: &[u8]| {
    let Ok(certificate) = Certificate::from_bytes(bytes) else { return };
    let options = KeyOptions::parse("cert-authority,restrict,command=\"true\"").unwrap();
    if let Ok(permissions) = permissions(&certificate, &options, "root", [10, 0, 0, 1].into()) {
        assert!(!permissions.pty && permissions.command.as_deref() == Some("true"));
    }
});
