//! What the server offers on the wire.

use std::borrow::Cow;
use std::sync::Arc;
use std::time::Duration;

use russh::keys::PrivateKey;
use russh::server::Config;
use russh::{MethodKind, MethodSet, Preferred, SshId, cipher, kex, mac};

use super::intake::WINDOW;

/// A client is given up after so many unanswered questions whether it lives.
const KEEPALIVES: usize = 4;
/// For how long a client may leave what we sent unacknowledged, in milliseconds.
pub const UNACKNOWLEDGED: u32 = 120_000;
/// A login has 6 tries. OpenSSH begins with a request of the method `none`, to learn the methods: it counts as well.
const TRIES: usize = 6 + 1;

/// The server's side of a connection; a client that says nothing is asked after `client_alive` whether it lives.
pub fn config(host_key: PrivateKey, client_alive: Duration) -> Arc<Config> {
    Arc::new(Config {
        server_id: SshId::Standard(Cow::Borrowed(concat!("SSH-2.0-PiLifeboat_", env!("CARGO_PKG_VERSION")))),
        methods: MethodSet::from([MethodKind::PublicKey].as_slice()),
        // Which public keys are known is no secret that a delay would keep.
        auth_rejection_time: Duration::ZERO,
        auth_rejection_time_initial: None,
        keys: vec![host_key],
        window_size: WINDOW,
        maximum_packet_size: 32 * 1024,
        event_buffer_size: 16,
        preferred: preferred(),
        max_auth_attempts: TRIES,
        inactivity_timeout: None,
        keepalive_interval: Some(client_alive),
        keepalive_max: KEEPALIVES,
        nodelay: true,
        ..Config::default()
    })
}

/// ChaCha20 first: the Cortex-A72 of a Pi 4 has no AES instructions.
fn preferred() -> Preferred {
    Preferred {
        kex: Cow::Borrowed(&[
            kex::MLKEM768X25519_SHA256,
            kex::CURVE25519,
            kex::CURVE25519_PRE_RFC_8731,
            kex::EXTENSION_SUPPORT_AS_SERVER,
            kex::EXTENSION_OPENSSH_STRICT_KEX_AS_SERVER,
        ]),
        cipher: Cow::Borrowed(&[
            cipher::CHACHA20_POLY1305,
            cipher::AES_256_GCM,
            cipher::AES_128_GCM,
            cipher::AES_256_CTR,
            cipher::AES_128_CTR,
        ]),
        mac: Cow::Borrowed(&[mac::HMAC_SHA256_ETM, mac::HMAC_SHA512_ETM, mac::HMAC_SHA256, mac::HMAC_SHA512]),
        ..Preferred::default()
    }
}
