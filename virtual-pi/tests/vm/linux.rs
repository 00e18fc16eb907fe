//! A Linux on the machine: report port, device tree, network, SSH greeting, watchdog. Debian's arm64 kernel and busybox
//! are fetched once by `apt-get download` (which takes `dpkg --add-architecture arm64` and `apt-get update` before), or
//! are in the folder that `VIRTUAL_PI_LINUX` names, unpacked by `dpkg-deb -x`.

use std::fs;
use std::io::{Read, Write};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::LazyLock;
use std::thread;
use std::time::Duration;

use crate::common::{Keys, Text, files_with, image, pi};
use init::event::State;
use virtual_pi::bootloader::firmware::Boot;
use virtual_pi::bootloader::http::Source;
use virtual_pi::bootloader::{http_boot, load_unsigned};
use virtual_pi::machine::{End, Machine, Model, Options};

tests![
    reports_arrive,
    http_boot_to_a_greeting,
    no_address_while_frames_are_dropped,
    a_watchdog_bites,
    the_real_device_tree,
];

const LONG: Duration = Duration::from_secs(300);

/// The unpacked Debian packages.
struct Linux {
    folder: PathBuf,
    release: String,
}

impl Linux {
    fn new() -> Self {
        static FOLDER: LazyLock<PathBuf> =
            LazyLock::new(|| std::env::var_os("VIRTUAL_PI_LINUX").map_or_else(fetch, PathBuf::from));
        let folder = FOLDER.clone();
        let mut modules = fs::read_dir(folder.join("lib/modules"))
            .expect("lib/modules (Debian package: linux-image-*-arm64)");
        let release = modules.next().unwrap().unwrap().file_name().into_string().unwrap();
        Self { folder, release }
    }

    fn kernel(&self) -> Vec<u8> {
        fs::read(self.folder.join(format!("boot/vmlinuz-{}", self.release))).unwrap()
    }

    /// An initramfs with busybox, these modules in this order, and this script as its /init.
    fn initramfs(&self, modules: &[&str], script: &str) -> Vec<u8> {
        let root = tempfile::TempDir::new().unwrap();
        let path = |name: &str| root.path().join(name);
        for folder in ["bin", "dev", "proc", "sys", "mod"] {
            fs::create_dir(path(folder)).unwrap();
        }
        fs::copy(self.folder.join("bin/busybox"), path("bin/busybox"))
            .expect("bin/busybox (Debian package: busybox-static:arm64)");
        let mut load = String::new();
        for (number, module) in modules.iter().enumerate() {
            let file = format!("mod/{number:02}.ko");
            fs::copy(
                find(&self.folder.join("lib/modules").join(&self.release), &format!("{module}.ko")).unwrap(),
                path(&file),
            )
            .unwrap();
            load.push_str(&format!("insmod /{file}\n"));
        }
        let preamble = "#!/bin/busybox sh\n/bin/busybox --install -s /bin\nmount -t proc p /proc\nmount -t sysfs s /sys\nmount -t devtmpfs d /dev\n";
        fs::write(path("init"), format!("{preamble}{load}{script}\n")).unwrap();
        pack(root.path())
    }

    /// Loads a boot.img of it, as over HTTP.
    fn boot(&self, modules: &[&str], script: &str) -> Boot {
        let tree = fs::read(self.device_tree()).unwrap();
        let files = files_with(&[
            ("kernel8.img", Some(&self.kernel())),
            ("initramfs8", Some(&self.initramfs(modules, script))),
            ("cmdline.txt", Some(b"console=serial0,115200 panic=1 quiet")),
            ("bcm2711-rpi-4-b.dtb", Some(&tree)),
        ]);
        load_unsigned(&pi(), &image(&files), &mut Text::default().log()).unwrap()
    }

    fn device_tree(&self) -> PathBuf {
        self.folder.join(format!("usr/lib/linux-image-{}/broadcom/bcm2711-rpi-4-b.dtb", self.release))
    }
}

/// Fetches and unpacks the packages, unless that was done before.
fn fetch() -> PathBuf {
    let target = Path::new(env!("CARGO_TARGET_TMPDIR"));
    let done = target.join("linux-arm64");
    if done.exists() {
        return done;
    }
    let work = tempfile::TempDir::new_in(target).unwrap();
    let run = |program: &str, arguments: &[&str]| {
        let output = Command::new(program).args(arguments).current_dir(work.path()).output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(
            output.status.success(),
            "{program} {arguments:?}: {said}\n(dpkg --add-architecture arm64 && apt-get update)"
        );
        String::from_utf8(output.stdout).unwrap()
    };
    let package = run("apt-cache", &["show", "--no-all-versions", "linux-image-arm64:arm64"]);
    let kernel = package.split([' ', ',', '\n']).find(|word| {
        word.starts_with("linux-image-") && word.ends_with("-arm64") && *word != "linux-image-arm64"
    });
    run("apt-get", &["download", &format!("{}:arm64", kernel.unwrap()), "busybox-static:arm64"]);
    run("sh", &["-c", "for deb in *.deb; do dpkg-deb -x $deb linux || exit; done"]);
    assert!(work.path().join("linux/lib/modules").exists(), "{kernel:?} has no modules");
    fs::rename(work.path().join("linux"), &done).unwrap();
    done
}

fn find(folder: &Path, name: &str) -> Option<PathBuf> {
    fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).find_map(|path| match path.is_dir() {
        true => find(&path, name),
        false => (path.file_name().unwrap() == name).then_some(path),
    })
}

/// A cpio archive of a folder.
fn pack(root: &Path) -> Vec<u8> {
    let chmod =
        Command::new("chmod").args(["755", "init", "bin/busybox"]).current_dir(root).status().unwrap();
    assert!(chmod.success());
    let find = Command::new("find").arg(".").current_dir(root).output().unwrap();
    let cpio = Command::new("cpio")
        .args(["--quiet", "-o", "-H", "newc", "-R", "0:0"])
        .current_dir(root)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn();
    let mut cpio = cpio.expect("cpio runs (Debian package: cpio)");
    let mut names = cpio.stdin.take().unwrap();
    let writer = thread::spawn(move || names.write_all(&find.stdout).unwrap());
    let output = cpio.wait_with_output().unwrap();
    writer.join().unwrap();
    assert!(output.status.success());
    output.stdout
}

const VIRTIO: [&str; 6] = [
    "virtio_pci_legacy_dev",
    "virtio_pci_modern_dev",
    "virtio_pci",
    "failover",
    "net_failover",
    "virtio_net",
];
const UP: &str = "ip link set lo up; ip link set eth0 up\n";
const ADDRESS: &str = "udhcpc -q -n -i eth0 -t 30 -T 1 -s /bin/true >/dev/null && ip addr add 10.0.2.15/24 dev eth0 && echo HAVE-ADDRESS\n";

fn modules(more: &[&'static str]) -> Vec<&'static str> {
    [&VIRTIO[..], more].concat()
}

fn reports_arrive() {
    let script = r#"
port=$(grep -lx org.lifeboat.report /sys/class/virtio-ports/*/name); port=/dev/$(basename $(dirname $port))
say() { echo "{\"goal\":\"rescue\",\"step\":\"$1\",\"number\":1,\"total\":2,\"state\":\"$2\",\"uptime_ms\":5,\"next\":\"more\"}" > $port; }
say network started; echo nonsense > $port; say network done
read line; echo "GOT $line"; cat /proc/cmdline; for f in model serial-number chosen/bootloader/version; do cat /proc/device-tree/$f; echo; done
hexdump -C /proc/device-tree/chosen/bootloader/boot-mode; date +YEAR-%Y
say rescue failed; poweroff -f"#;
    let boot = Linux::new().boot(&modules(&["virtio_console"]), script);
    let mut machine = Machine::start(&Options::new(pi(), boot)).unwrap();
    let status = machine.wait_for_report(|status| status.state == State::Done, LONG).unwrap();
    assert_eq!(status.step, "network");
    let mark = machine.mark();
    machine.type_on_console("typed\n").unwrap();
    machine.wait_for_console_after(mark, "GOT typed", LONG).unwrap();
    assert_eq!(machine.wait_for_report_after(mark, |_| true, LONG).unwrap().step, "rescue");
    assert_eq!(machine.wait_for_end(LONG).unwrap(), End::PowerOff);
    assert_eq!(machine.reports().len(), 3);
    assert!(machine.bad_reports()[0].contains("nonsense"));
    let console = machine.console();
    for words in [
        "Raspberry Pi 4 Model B Rev 1.4",
        "100000009ffefdef",
        "7669727475616c2d",
        "00 00 00 07",
        "console=ttyAMA0,115200 panic=1",
        "YEAR-1970",
    ] {
        assert!(console.contains(words), "{words}\n{console}");
    }
}

fn http_boot_to_a_greeting() {
    let linux = Linux::new();
    let keys = Keys::new(2048);
    let script = format!("{UP}{ADDRESS}while :; do printf 'SSH-2.0-test\\r\\n' | nc -l -p 22; done");
    let files = files_with(&[
        ("kernel8.img", Some(&linux.kernel())),
        ("initramfs8", Some(&linux.initramfs(&modules(&[]), &script))),
    ]);
    let image = image(&files);
    let sig = keys.sign(&image);
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let source = Source::new("127.0.0.1", listener.local_addr().unwrap().port(), "pi").unwrap();
    thread::spawn(move || {
        for file in [sig, image] {
            let (mut stream, _) = listener.accept().unwrap();
            let _request = stream.read(&mut [0; 4096]).unwrap();
            write!(stream, "HTTP/1.0 200 OK\r\ncontent-length: {}\r\n\r\n", file.len()).unwrap();
            stream.write_all(&file).unwrap();
        }
    });
    let boot = http_boot(&pi(), &source, &keys.public(), &mut Text::default().log()).unwrap();
    let machine = Machine::start(&Options::new(pi(), boot)).unwrap();
    assert_eq!(machine.ssh_banner(LONG).unwrap(), "SSH-2.0-test");
    machine.set_link(false).unwrap();
    assert!(machine.ssh_banner(Duration::from_secs(2)).is_err());
    machine.set_link(true).unwrap();
    assert_eq!(machine.ssh_banner(LONG).unwrap(), "SSH-2.0-test");
}

fn no_address_while_frames_are_dropped() {
    let script = format!(
        "{UP}udhcpc -q -n -i eth0 -t 2 -T 1 -s /bin/true >/dev/null || echo NO-ADDRESS\n{ADDRESS}poweroff -f"
    );
    let boot = Linux::new().boot(&modules(&[]), &script);
    let options = Options { no_dhcp_for: LONG, ..Options::new(pi(), boot) };
    let machine = Machine::start(&options).unwrap();
    machine.wait_for_console("NO-ADDRESS", LONG).unwrap();
    machine.set_frames_dropped(false).unwrap();
    machine.wait_for_console("HAVE-ADDRESS", LONG).unwrap();
    assert_eq!(machine.wait_for_end(LONG).unwrap(), End::PowerOff);
}

fn a_watchdog_bites() {
    let script = "watchdog -T 2 -t 1 -F /dev/watchdog0 & sleep 3; echo FED; kill -9 $!; sleep 1000";
    let boot = Linux::new().boot(&modules(&["i6300esb"]), script);
    let options = Options { watchdog: true, ..Options::new(pi(), boot) };
    let machine = Machine::start(&options).unwrap();
    machine.wait_for_console("FED", LONG).unwrap();
    assert_eq!(machine.wait_for_end(LONG).unwrap(), End::Watchdog);
}

fn the_real_device_tree() {
    let modules =
        ["usb-common", "usbcore", "roles", "udc-core", "phy-generic", "dwc2", "mii", "usbnet", "cdc_ether"];
    let script = "cat /proc/device-tree/model; echo; cat /proc/device-tree/compatible; echo; until [ -e /sys/class/net/eth0 ]; do sleep 1; done
cat /sys/class/net/eth0/address; ip link set eth0 up; udhcpc -q -n -i eth0 -t 30 -T 1 -s /bin/true && echo HAVE-ADDRESS; poweroff -f";
    let linux = Linux::new();
    let mut boot = linux.boot(&modules, script);
    boot.command_line = boot.command_line.replace("8250.nr_uarts=1", "8250.nr_uarts=0");
    let options = Options { model: Model::Raspi4B, ..Options::new(pi(), boot) };
    let machine = Machine::start(&options).unwrap();
    for words in [
        "Raspberry Pi 4 Model B Rev 1.4",
        "raspberrypi,4-model-b",
        "dc:a6:32:fe:fd:ef|HAVE-ADDRESS",
        "HAVE-ADDRESS",
    ] {
        machine.wait_for_console(words, LONG).unwrap();
    }
}
