//! Keys and signatures of both kinds: RSA-2048 for the `boot.sig` that a Pi's bootloader checks, and minisign's
//! Ed25519 for the OS images that init checks.

pub mod boot_sig;
pub mod file;
pub mod keygen;
pub mod output;
pub mod sign;
pub mod timestamp;
pub mod verify;

/// What a key is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Kind {
    /// RSA-2048, for the boot.sig that the Pi's bootloader checks.
    Boot,
    /// Ed25519 in minisign's format, for OS images and install plans that init checks.
    Image,
}

impl std::fmt::Display for Kind {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.write_str(match self {
            Kind::Boot => "boot key (RSA-2048)",
            Kind::Image => "image key (minisign Ed25519)",
        })
    }
}
