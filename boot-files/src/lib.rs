//! Stage 1: the image builder. Receives `image.toml`, Debian or Raspberry Pi OS arm64 packages and the static device
//! binaries; hands over `boot.img`, `boot.sig`, a TFTP tree and a manifest.

pub mod access;
pub mod apt;
pub mod assemble;
pub mod boot_file;
pub mod build;
pub mod busybox;
pub mod cache;
pub mod certificates;
pub mod config;
pub mod config_txt;
pub mod deb;
pub mod device;
pub mod digest;
pub mod eeprom;
pub mod elf;
pub mod fat;
pub mod firmware;
pub mod host_apt;
pub mod initramfs;
pub mod inspect;
pub mod kernel;
pub mod keys;
pub mod libraries;
pub mod manifest;
pub mod modules;
pub mod os;
pub mod output;
pub mod package;
pub mod profile;
pub mod progress;
pub mod recipe;
pub mod skeleton;
pub mod store;
pub mod tree;
pub mod usr;
