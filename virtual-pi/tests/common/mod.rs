//! Boot files for tests, made on the spot: small, and signed by real `openssl`.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, reason = "a test may panic")]
#![allow(dead_code, unreachable_pub, reason = "each test program uses its part")]

pub mod bare_metal;

use std::fs;
use std::io::{Cursor, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::{Arc, Mutex};

use fatfs::{FileSystem, FormatVolumeOptions, FsOptions, format_volume};
use sha2::{Digest, Sha256};
use tempfile::TempDir;
use virtual_pi::board::{Board, Pi, Serial};
use virtual_pi::bootloader::log::Log;

/// A Pi 4B with 1 GiB.
pub fn pi() -> Pi {
    Pi::new(Board::Pi4B, Serial::default(), 1024)
}

/// A log whose text can be read.
#[derive(Clone, Default)]
pub struct Text(Arc<Mutex<Vec<u8>>>);

impl Text {
    pub fn log(&self) -> Log {
        Log::new(self.clone())
    }

    pub fn text(&self) -> String {
        String::from_utf8(self.0.lock().unwrap().clone()).unwrap()
    }
}

impl Write for Text {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// Runs openssl, which has to succeed.
pub fn openssl(arguments: &[&str], folder: &Path) -> Output {
    let output = Command::new("openssl")
        .args(arguments)
        .current_dir(folder)
        .output()
        .expect("openssl runs (Debian package: openssl)");
    assert!(output.status.success(), "openssl {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    output
}

/// A key pair: `boot.pem` and `boot.pub.pem` in a folder that goes with it.
pub struct Keys {
    pub folder: TempDir,
}

impl Keys {
    pub fn new(bits: u32) -> Self {
        let folder = TempDir::new().unwrap();
        openssl(&["genrsa", "-out", "boot.pem", &bits.to_string()], folder.path());
        openssl(&["rsa", "-in", "boot.pem", "-pubout", "-out", "boot.pub.pem"], folder.path());
        Self { folder }
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub fn public_pem(&self) -> String {
        fs::read_to_string(self.path("boot.pub.pem")).unwrap()
    }

    pub fn public(&self) -> virtual_pi::bootloader::signature::PublicKey {
        virtual_pi::bootloader::signature::PublicKey::from_pem(&self.public_pem()).unwrap()
    }

    /// The raw signature of `image`, by openssl.
    pub fn signature(&self, image: &[u8]) -> Vec<u8> {
        fs::write(self.path("image"), image).unwrap();
        openssl(&["dgst", "-sha256", "-sign", "boot.pem", "-out", "signature", "image"], self.folder.path());
        fs::read(self.path("signature")).unwrap()
    }

    /// A boot.sig.
    pub fn sign(&self, image: &[u8]) -> Vec<u8> {
        boot_sig(image, &self.signature(image))
    }
}

/// A boot.sig with this signature.
pub fn boot_sig(image: &[u8], signature: &[u8]) -> Vec<u8> {
    let hex = |bytes: &[u8]| bytes.iter().map(|b| format!("{b:02x}")).collect::<String>();
    format!("{}\nts: 1700000000\nrsa2048: {}\n", hex(&Sha256::digest(image)), hex(signature)).into_bytes()
}

/// The smallest thing that passes for an arm64 kernel.
pub fn kernel() -> Vec<u8> {
    let mut image = vec![0; 4096];
    image[0x38..0x3c].copy_from_slice(b"ARMd");
    image
}

/// The smallest thing that passes for a device tree.
pub fn device_tree() -> Vec<u8> {
    [&0xd00d_feed_u32.to_be_bytes()[..], &64_u32.to_be_bytes(), &[0; 56]].concat()
}

/// The files of a boot.img that boots.
pub fn files() -> Vec<(&'static str, Vec<u8>)> {
    vec![
        ("config.txt", b"arm_64bit=1\nkernel=kernel8.img\ninitramfs initramfs8 followkernel\n".to_vec()),
        ("cmdline.txt", b"console=serial0,115200 panic=1\n".to_vec()),
        ("start4.elf", b"\x7fELF start".to_vec()),
        ("fixup4.dat", b"fixup".to_vec()),
        ("bcm2711-rpi-4-b.dtb", device_tree()),
        ("bcm2711-rpi-cm4.dtb", device_tree()),
        ("kernel8.img", kernel()),
        ("initramfs8", b"initramfs".to_vec()),
    ]
}

/// The same, with some replaced or added, or (with `None`) left out.
pub fn files_with(changes: &[(&'static str, Option<&[u8]>)]) -> Vec<(&'static str, Vec<u8>)> {
    let mut files = files();
    for (name, content) in changes {
        files.retain(|(other, _)| other != name);
        files.extend(content.map(|content| (*name, content.to_vec())));
    }
    files
}

/// A FAT image with these files.
pub fn image(files: &[(&str, Vec<u8>)]) -> Vec<u8> {
    let size = files.iter().map(|(_, content)| content.len() + 4096).sum::<usize>() + (1 << 20);
    let mut disk = Cursor::new(vec![0; size.next_multiple_of(512)]);
    format_volume(&mut disk, FormatVolumeOptions::new().volume_label(*b"BOOT       ")).unwrap();
    {
        let fat = FileSystem::new(&mut disk, FsOptions::new()).unwrap();
        for (name, content) in files {
            if let Some((folder, _)) = name.rsplit_once('/') {
                fat.root_dir().create_dir(folder).unwrap();
            }
            fat.root_dir().create_file(name).unwrap().write_all(content).unwrap();
        }
    }
    disk.into_inner()
}

/// The image of [`files`].
pub fn good_image() -> Vec<u8> {
    image(&files())
}
