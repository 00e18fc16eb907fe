//! The images of the vm tier, made once.

use std::fs::File;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::OnceLock;

use super::workspace;

/// What there is.
pub struct Images {
    /// The folder with the rescue's `boot.img` and `boot.sig`.
    pub rescue: PathBuf,
    /// The public key that `boot.sig` is checked with.
    pub boot_key: PathBuf,
    /// The private key that logs in.
    pub ssh_key: PathBuf,
    /// The private key that signs OS images.
    pub image_key: PathBuf,
    /// Another one, whose public key is in no image.
    pub other_key: PathBuf,
    /// An OS that is one shell script and 24 MiB of noise; it says `TEST-OS` on the console.
    pub tiny: PathBuf,
}

/// `target/vm`.
pub fn folder() -> PathBuf {
    let target =
        std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| workspace().join("target"), PathBuf::from);
    let folder = target.join("vm");
    std::fs::create_dir_all(&folder).unwrap();
    folder
}

/// A program of this workspace, built beside this test.
pub fn program(name: &str) -> PathBuf {
    let test = std::env::current_exe().unwrap();
    let path = test.parent().unwrap().parent().unwrap().join(name);
    assert!(path.exists(), "{} is missing: run `make test TIER=vm`", path.display());
    path
}

/// Runs a command, which must succeed.
pub fn run(command: &mut Command) {
    let status = command.stdin(Stdio::null()).status().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    assert!(status.success(), "{command:?}: {status}");
}

impl Images {
    /// Makes them, or finds them.
    pub fn get() -> &'static Self {
        static IMAGES: OnceLock<Images> = OnceLock::new();
        IMAGES.get_or_init(|| {
            let folder = folder();
            // Test programs may run at the same time.
            let lock = File::create(folder.join("lock")).unwrap();
            lock.lock().unwrap();
            Self::make(&folder)
        })
    }

    fn make(folder: &Path) -> Self {
        let images = Images {
            rescue: folder.join("rescue"),
            boot_key: folder.join("boot.pub.pem"),
            ssh_key: folder.join("id_ed25519"),
            image_key: folder.join("image.key"),
            other_key: folder.join("other.key"),
            tiny: folder.join("tiny.squashfs"),
        };
        images.make_keys(folder);
        let config = folder.join("image.toml");
        std::fs::write(&config, IMAGE_TOML).unwrap();
        let target = folder.parent().unwrap();
        run(Command::new(program("boot-files"))
            .arg("build")
            .arg(&config)
            .arg("--output")
            .arg(&images.rescue)
            .arg("--device-binaries")
            .arg(target.join("aarch64-unknown-linux-gnu/quick")));
        // Made anew when this file, which says what is in it, has changed.
        let recipe = folder.join("tiny.recipe");
        if std::fs::read_to_string(&recipe).is_ok_and(|made| made == include_str!("images.rs")) {
            return images;
        }
        let root = make_tiny_root(folder, &images.rescue);
        make_os(&root, &images.tiny, &images.image_key);
        std::fs::write(&recipe, include_str!("images.rs")).unwrap();
        images
    }

    fn make_keys(&self, folder: &Path) {
        let keygen = |kind: &str, name: &str, made: &Path| {
            if !made.exists() {
                run(Command::new(program("boot-files"))
                    .args(["keygen", "--kind", kind])
                    .arg(folder.join(name)));
            }
        };
        keygen("boot", "boot", &self.boot_key);
        keygen("image", "image", &self.image_key);
        keygen("image", "other", &self.other_key);
        super::tls::make_authority(folder);
        if !self.ssh_key.exists() {
            run(Command::new("ssh-keygen").args(["-q", "-t", "ed25519", "-N", "", "-f"]).arg(&self.ssh_key));
        }
    }
}

/// Compressed lightly: tests want it soon, not small.
const IMAGE_TOML: &str = r#"
format = 1
name = "vm-tier"
[boot]
cmdline = "console=ttyAMA0,115200 panic=10"
compression_level = 3
[access]
authorized_keys = ["id_ed25519.pub"]
image_keys = ["image.pub"]
ca_certificates = ["ca.pem"]
[sign]
key = "boot.pem"
# What the profile "full" has of the programs that our own verbs call.
[[tools]]
package = "kexec-tools"
files = ["/usr/sbin/kexec"]
"#;

/// Packs and signs an OS image.
pub fn make_os(source: &Path, squashfs: &Path, key: &Path) {
    run(Command::new(program("boot-files"))
        .arg("os")
        .arg(source)
        .arg("--output")
        .arg(squashfs)
        .arg("--key")
        .arg(key));
}

/// A small Debian with systemd, made once: the squashfs, with manifest and signature beside it.
pub fn debian() -> PathBuf {
    make_debian("debian", &[])
}

/// The same with a kernel of its own, as one is installed on a disk. What makes an initramfs is there; who knows the disk
/// makes it. Of the drivers only those that the virtual Pi may need are left.
pub fn debian_with_kernel() -> PathBuf {
    let mut options =
        vec!["--include=linux-image-arm64,initramfs-tools,cryptsetup-initramfs,zstd".to_owned()];
    let unneeded =
        ["gpu", "media", "net/ethernet", "net/wireless", "infiniband", "staging", "iio", "scsi", "hwmon"];
    let unneeded = unneeded.map(|folder| format!("drivers/{folder}"));
    options.extend(
        unneeded
            .iter()
            .map(String::as_str)
            .chain(["sound"])
            .map(|folder| format!("--dpkgopt=path-exclude=/usr/lib/modules/*/kernel/{folder}/*")),
    );
    make_debian("debian-with-kernel", &options)
}

fn make_debian(name: &str, options: &[String]) -> PathBuf {
    let squashfs = folder().join(name).with_extension("squashfs");
    // Test programs may run at the same time.
    let lock = File::create(squashfs.with_extension("lock")).unwrap();
    lock.lock().unwrap();
    if !squashfs.with_extension("json.minisig").exists() {
        let tar = squashfs.with_extension("tar");
        let key = Images::get().ssh_key.with_extension("pub");
        let mut script = Command::new(super::workspace().join("virtual-pi/demo-debian.sh"));
        // The kernel's package would make an initramfs for no disk in particular.
        run(script.arg(key).arg(&tar).args(options).env("INITRD", "No"));
        make_os(&tar, &squashfs, &Images::get().image_key);
        std::fs::remove_file(&tar).unwrap();
    }
    squashfs
}

/// The files of [`Images::tiny`] but its noise, in a folder of their own.
pub fn tiny_root(to: &Path) {
    run(Command::new(program("boot-files")).arg("unpack").arg(&Images::get().tiny).arg(to));
    std::fs::remove_file(to.join("noise")).unwrap();
}

/// Signs an existing squashfs.
pub fn sign_os(squashfs: &Path, key: &Path) {
    let mut command = Command::new(program("boot-files"));
    run(command.arg("os").arg(squashfs).arg("--manifest-only").arg("--no-init-check").arg("--key").arg(key));
}

/// Signs a file with the key of OS images.
pub fn sign(file: &Path) {
    run(Command::new(program("boot-files")).arg("sign").arg(file).arg("--key").arg(&Images::get().image_key));
}

/// busybox out of the rescue, a script as init, and noise that no compression makes smaller.
fn make_tiny_root(folder: &Path, rescue: &Path) -> PathBuf {
    let unpacked = folder.join("unpacked");
    let _ = std::fs::remove_dir_all(&unpacked);
    std::fs::create_dir(&unpacked).unwrap();
    let unpack = |image: &Path, to: &Path| {
        run(Command::new(program("boot-files")).arg("unpack").arg(image).arg(to));
    };
    unpack(&rescue.join("boot.img"), &unpacked.join("boot"));
    unpack(&unpacked.join("boot/initramfs8"), &unpacked.join("initramfs"));
    unpack(&unpacked.join("initramfs/usr.squashfs"), &unpacked.join("usr"));
    let root = unpacked.join("tiny");
    for name in ["bin", "sbin", "dev", "proc", "sys", "run", "tmp", "etc", "lib/modules"] {
        std::fs::create_dir_all(root.join(name)).unwrap();
    }
    let usr = unpacked.join("usr");
    std::fs::copy(usr.join("bin/busybox"), root.join("bin/busybox")).unwrap();
    // Its loader, which leads to a file beside its libraries, and those.
    let libraries = "lib/aarch64-linux-gnu";
    std::fs::create_dir_all(root.join(libraries)).unwrap();
    for name in ["libc.so.6", "libresolv.so.2"] {
        std::fs::copy(usr.join(libraries).join(name), root.join(libraries).join(name)).unwrap();
    }
    let loader = "ld-linux-aarch64.so.1";
    std::fs::copy(usr.join(libraries).join(loader), root.join("lib").join(loader)).unwrap();
    let script = root.join("sbin/init");
    std::fs::write(&script, TINY_INIT).unwrap();
    std::fs::set_permissions(&script, std::fs::Permissions::from_mode(0o755)).unwrap();
    let broken = root.join("sbin/broken");
    std::fs::write(&broken, "#!/no/such/interpreter\n").unwrap();
    std::fs::set_permissions(&broken, std::fs::Permissions::from_mode(0o755)).unwrap();
    let mut noise = vec![0; 24 << 20];
    let mut state = 0x9E37_79B9_7F4A_7C15_u64;
    for chunk in noise.chunks_exact_mut(8) {
        // xorshift64: any noise will do, the same each time.
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        chunk.copy_from_slice(&state.to_le_bytes());
    }
    std::fs::write(root.join("noise"), noise).unwrap();
    root
}

const TINY_INIT: &str = "#!/bin/busybox sh
b=/bin/busybox
exec >/dev/console 2>&1
echo \"TEST-OS pid $$ arguments $*\"
echo \"TEST-OS root $($b awk '$2 == \"/\" {print $3}' /proc/mounts | $b tail -n 1)\"
echo \"TEST-OS resolv $($b cat /etc/resolv.conf | $b tr '\\n' ' ')\"
echo \"TEST-OS modules $($b ls /lib/modules/$($b uname -r)/modules.dep)\"
echo \"TEST-OS status $($b cat /run/lifeboat/boot.json)\"
echo \"TEST-OS received $($b cat /sys/class/net/e*/statistics/rx_bytes)\"
echo \"TEST-OS noise $($b sha256sum /noise)\"
echo \"TEST-OS end\"
while :; do $b sleep 1; done
";
