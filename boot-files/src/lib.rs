//! Stage 1: the image builder. Receives `image.toml`, Debian or Raspberry Pi OS arm64 packages and the static device
//! binaries; hands over `boot.img`, `boot.sig`, a TFTP tree and a manifest.

pub mod keys;
