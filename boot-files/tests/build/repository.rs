//! The repository: a kernel, firmware, busybox, certificates and a tool with its library, each as small as it can be.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

/// The date that the repository says it has.
pub(crate) const DATE: u64 = 1_750_000_000;

/// Runs a program of the host; `package` is Debian's for it.
pub(crate) fn run(folder: &Path, package: &str, program: &str, arguments: &[&str]) -> Vec<u8> {
    let output = Command::new(program).args(arguments).current_dir(folder).output();
    let output =
        output.unwrap_or_else(|error| panic!("{program}: {error}; install Debian's package {package}"));
    assert!(
        output.status.success(),
        "{program} {arguments:?}: {}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
    output.stdout
}

/// Makes a folder with files in it: path and content.
fn files(folder: &Path, files: &[(&str, &[u8])]) {
    for (path, content) in files {
        let path = folder.join(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, content).unwrap();
    }
}

/// Where the repository and the programs for the device are. Made once for all tests.
pub(crate) struct Repository {
    folder: tempfile::TempDir,
}

impl Repository {
    /// The one repository.
    pub(crate) fn get() -> &'static Repository {
        static ONCE: OnceLock<Repository> = OnceLock::new();
        ONCE.get_or_init(|| {
            let repository = Repository { folder: tempfile::tempdir().unwrap() };
            repository.elf_files();
            repository.kernel_packages();
            repository.other_packages();
            repository.index(&repository.path("apt"));
            repository
        })
    }

    /// A path of it.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// An own copy of the repository in `to`, for tests that damage it.
    pub(crate) fn copy(&self, to: &Path) {
        run(
            to,
            "coreutils",
            "cp",
            &["-r", self.path("apt").to_str().unwrap(), to.join("apt").to_str().unwrap()],
        );
    }

    fn link(&self, output: &str, arguments: &[&str]) {
        let all = [&["-o", output], arguments].concat();
        run(self.folder.path(), "binutils-aarch64-linux-gnu", "aarch64-linux-gnu-ld", &all);
    }

    /// Programs and libraries without any code that could run: only the headers matter.
    fn elf_files(&self) {
        files(
            self.folder.path(),
            &[
                ("code.s", b".globl _start\n_start: ret\n"),
                ("base.s", b".section .modinfo,\"a\"\n.asciz \"name=base\"\n.section __ksymtab_strings,\"a\"\n.asciz \"of_base\"\n"),
                (
                    "driver.s",
                    b".section .modinfo,\"a\"\n.asciz \"name=a_driver\"\n.asciz \"alias=of:N*T*Cx\"\n.text\nbl of_base\n",
                ),
            ],
        );
        for name in ["code", "base", "driver"] {
            let arguments = ["-o", &format!("{name}.o"), &format!("{name}.s")];
            run(self.folder.path(), "binutils-aarch64-linux-gnu", "aarch64-linux-gnu-as", &arguments);
        }
        let loader = "/lib/ld-linux-aarch64.so.1";
        std::fs::create_dir_all(self.path("device")).unwrap();
        self.link("device/init", &["-static", "code.o"]);
        self.link("device/rescue", &["-static", "code.o"]);
        self.link("ld.so", &["-shared", "-soname", "ld-linux-aarch64.so.1", "code.o"]);
        self.link("libunder.so", &["-shared", "-soname", "libunder.so.2", "code.o"]);
        self.link("libover.so", &["-shared", "-soname", "libover.so.1", "code.o", "libunder.so"]);
        self.link("libgone.so", &["-shared", "-soname", "libgone.so.1", "code.o"]);
        self.link("tool", &["-dynamic-linker", loader, "code.o", "libover.so"]);
        self.link("broken", &["-dynamic-linker", loader, "code.o", "libgone.so"]);
    }

    fn package(&self, name: &str, architecture: &str, depends: &str, content: &[(&str, &[u8])]) {
        let root = self.path("packages").join(name);
        files(&root, content);
        let depends = if depends.is_empty() { String::new() } else { format!("Depends: {depends}\n") };
        let control = format!(
            "Package: {name}\nVersion: 1:2.0-1\nArchitecture: {architecture}\nMaintainer: a <a@b>\n{depends}Description: x\n"
        );
        files(&root, &[("DEBIAN/control", control.as_bytes())]);
        let pool = self.path("apt/pool");
        std::fs::create_dir_all(&pool).unwrap();
        let arguments =
            ["--root-owner-group", "-Zgzip", "-z1", "-b", root.to_str().unwrap(), pool.to_str().unwrap()];
        run(self.folder.path(), "dpkg", "dpkg-deb", &arguments);
    }

    fn kernel_packages(&self) {
        let read = |name: &str| std::fs::read(self.path(name)).unwrap();
        let mut kernel = vec![0x5a; 100_000];
        kernel[0x38..0x3c].copy_from_slice(b"ARMd");
        let modules = "usr/lib/modules/6.99-test/";
        let image = "usr/lib/linux-image-6.99-test/broadcom/";
        self.package(
            "linux-image-test",
            "arm64",
            "linux-image-6.99-test (= 1:2.0-1)",
            &[("usr/share/doc/x", b"x")],
        );
        let kernel_files: [(&str, &[u8]); 9] = [
            ("boot/vmlinuz-6.99-test", &kernel),
            (&format!("{modules}kernel/base.ko"), &read("base.o")),
            (&format!("{modules}kernel/a-driver.ko"), &read("driver.o")),
            (&format!("{modules}kernel/other.ko"), &read("code.o")),
            (&format!("{modules}modules.builtin"), b"kernel/drivers/loop.ko\nkernel/fs/squashfs.ko\n"),
            (&format!("{modules}modules.builtin.modinfo"), b"loop.license=GPL\0"),
            (&format!("{modules}modules.order"), b"kernel/base.ko\nkernel/a-driver.ko\n"),
            (&format!("{image}bcm2711-rpi-4-b.dtb"), b"tree 4b"),
            (&format!("{image}bcm2711-rpi-cm4-io.dtb"), b"tree cm4"),
        ];
        self.package("linux-image-6.99-test", "arm64", "kmod, linux-base", &kernel_files);
    }

    fn other_packages(&self) {
        let read = |name: &str| std::fs::read(self.path(name)).unwrap();
        let lib = "usr/lib/aarch64-linux-gnu";
        let firmware: [(&str, &[u8]); 2] = [
            ("usr/lib/raspi-firmware/start4.elf", b"start"),
            ("usr/lib/raspi-firmware/fixup4.dat", b"fixup"),
        ];
        self.package("raspi-firmware", "all", "", &firmware);
        let large = |size| vec![0u8; size];
        self.package("firmware-large", "all", "", &[("usr/lib/x/start4.elf", &large(66 << 20))]);
        self.package("firmware-huge", "all", "", &[("usr/lib/x/start4.elf", &large(97 << 20))]);
        let applets: Vec<String> = (10..90).map(|number| format!("applet{number}")).collect();
        let busybox = format!("\0[\0[[\0{}\0tool\0\0", applets.join("\0"));
        self.package("busybox-static", "arm64", "", &[("bin/busybox", busybox.as_bytes())]);
        let certificates: [(&str, &[u8]); 2] = [
            ("usr/share/ca-certificates/mozilla/B.crt", b"second"),
            ("usr/share/ca-certificates/mozilla/A.crt", b"first"),
        ];
        self.package("ca-certificates", "all", "", &certificates);
        self.package(
            "libc6",
            "arm64",
            "",
            &[(&format!("{lib}/libc-extra.so"), b"x"), ("lib/ld-linux-aarch64.so.1", &read("ld.so"))],
        );
        self.package(
            "libunder2t64",
            "arm64",
            "libc6",
            &[(&format!("{lib}/libunder.so.2"), &read("libunder.so"))],
        );
        // Not named after its library, as libssl3t64 is not after libcrypto.
        self.package(
            "libstrange",
            "arm64",
            "libunder2t64, libc6",
            &[(&format!("{lib}/libover.so.1"), &read("libover.so"))],
        );
        self.package(
            "tool",
            "arm64",
            "libaaa | libbbb, libstrange, libc6",
            &[("usr/sbin/tool", &read("tool"))],
        );
        self.package("broken", "arm64", "libstrange, libc6", &[("usr/bin/broken", &read("broken"))]);
        self.package("script", "arm64", "python3", &[("usr/bin/script", b"#!/usr/bin/python3\n")]);
    }

    /// Makes and signs the index of the repository in `apt`.
    pub(crate) fn index(&self, apt: &Path) {
        let home = self.path("gnupg");
        if !home.exists() {
            run(self.folder.path(), "coreutils", "mkdir", &["-m", "700", home.to_str().unwrap()]);
            let key = [
                "--batch",
                "--passphrase",
                "",
                "--quick-gen-key",
                "test <t@example>",
                "ed25519",
                "sign",
                "never",
            ];
            self.gpg(&key);
            std::fs::write(self.path("key.gpg"), self.gpg(&["--export"])).unwrap();
        }
        let packages = run(apt, "apt-utils", "apt-ftparchive", &["packages", "pool"]);
        std::fs::write(apt.join("Packages"), packages).unwrap();
        let options = ["-o", "APT::FTPArchive::Release::Suite=test", "release", "."];
        let release = String::from_utf8(run(apt, "apt-utils", "apt-ftparchive", &options)).unwrap();
        let date = |line: &str| {
            if line.starts_with("Date: ") {
                "Date: Sun, 15 Jun 2025 15:06:40 UTC".into()
            } else {
                line.to_owned()
            }
        };
        let release: String = release.lines().map(|line| date(line) + "\n").collect();
        std::fs::write(apt.join("Release"), release).unwrap();
        let signed = apt.join("InRelease");
        let _from_before = std::fs::remove_file(&signed);
        self.gpg(&[
            "--batch",
            "--clearsign",
            "-o",
            signed.to_str().unwrap(),
            apt.join("Release").to_str().unwrap(),
        ]);
        std::fs::remove_file(apt.join("Release")).unwrap();
    }

    fn gpg(&self, arguments: &[&str]) -> Vec<u8> {
        let home = self.path("gnupg");
        run(
            self.folder.path(),
            "gnupg",
            "gpg",
            &[&["-q", "--homedir", home.to_str().unwrap()], arguments].concat(),
        )
    }
}

impl Drop for Repository {
    fn drop(&mut self) {
        let _ended = Command::new("gpgconf")
            .args(["--homedir"])
            .arg(self.path("gnupg"))
            .args(["--kill", "all"])
            .status();
    }
}
