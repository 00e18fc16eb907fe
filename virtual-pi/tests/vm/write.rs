//! `rescue write` and `rescue save` on a virtual Pi's disks: what is right is there, what is not never boots.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use crate::site::images::{folder, program, run};
use crate::site::proxy::Proxy;
use crate::site::{HOST, Images, LIMIT, Server, ssh, ssh_ok, ssh_options};
use serde_json::Value;
use tempfile::TempDir;
use virtual_pi::machine::Machine;

tests![
    each_packing_is_written_and_the_partition_grows,
    what_is_not_right_never_boots,
    a_cut_line_goes_on_and_a_power_cut_leaves_nothing_that_boots,
    a_failing_disk_is_saved_and_what_was_unread_is_told,
];

const MIB: u64 = 1 << 20;
/// The image's size, and that of the disk that it is written to.
const IMAGE: u64 = 24 * MIB;
const DISK: u64 = 64 * MIB;

/// A folder with the image of a disk, as people make them: a partition table, an ext4 with files.
struct Site {
    folder: TempDir,
    sha256: String,
}

impl Site {
    fn new() -> Self {
        let folder = tempfile::tempdir_in(folder()).unwrap();
        let root = folder.path().join("root");
        std::fs::create_dir(&root).unwrap();
        let noise = File::open("/dev/urandom").unwrap();
        std::io::copy(&mut noise.take(9 * MIB), &mut File::create(root.join("noise")).unwrap()).unwrap();
        std::fs::write(root.join("text"), "some text that packs well\n".repeat(100_000)).unwrap();
        shell(
            folder.path(),
            "truncate -s 20M ext4 && mke2fs -q -t ext4 -L root -d root ext4 && truncate -s 24M disk.img \
             && echo 'start=4MiB, type=83' | sfdisk -q disk.img && dd if=ext4 of=disk.img bs=1M seek=4 conv=notrunc status=none",
        );
        let sha256 = sha256(&folder.path().join("disk.img"));
        Site { folder, sha256 }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// An empty disk, full of something old.
    fn disk(&self, name: &str, size: u64) -> PathBuf {
        let path = self.path(name);
        shell(self.folder.path(), &format!("head -c {size} /dev/zero | tr '\\0' 'o' > {name}"));
        path
    }

    fn put(&self, server: &Server, name: &str) {
        server.put(name, &std::fs::read(self.path(name)).unwrap());
    }
}

fn shell(folder: &Path, line: &str) {
    run(Command::new("bash").args(["-ec", line]).current_dir(folder));
}

fn sha256(path: &Path) -> String {
    let output = Command::new("sha256sum").arg(path).output().unwrap();
    String::from_utf8(output.stdout).unwrap().split(' ').next().unwrap().into()
}

fn power_on(server: &Server, disks: &[PathBuf]) -> Machine {
    server.power_on_with("", |options| options.disks = disks.to_vec())
}

/// What `rescue write … --json` printed.
fn written(machine: &Machine, words: &str) -> Value {
    serde_json::from_str(&ssh_ok(machine, &format!("rescue write --yes --json {words}"))).unwrap()
}

/// It must fail with this exit code, and say this.
fn fails(machine: &Machine, command: &str, code: i32, words: &[&str]) {
    let Output { status, stderr, .. } = ssh(machine, command);
    let said = String::from_utf8_lossy(&stderr);
    assert_eq!(status.code(), Some(code), "{command}: {said}");
    for word in words {
        assert!(said.contains(word), "{command}: {word} in {said}");
    }
}

/// Bytes of a disk of ours, as the guest left it.
fn bytes(disk: &Path, at: u64, length: u64) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut disk = File::open(disk).unwrap();
    disk.seek(SeekFrom::Start(at)).unwrap();
    disk.take(length).read_to_end(&mut bytes).unwrap();
    bytes
}

fn assert_not_bootable(disk: &Path) {
    let size = disk.metadata().unwrap().len();
    for at in [0, size - MIB] {
        assert!(bytes(disk, at, MIB).iter().all(|byte| *byte == 0), "the MiB at {at}");
    }
    let table = Command::new("sfdisk").arg("--dump").arg(disk).output().unwrap();
    assert!(!table.status.success(), "no partition table: {table:?}");
}

const WHOLE: &str = "head -c 25165824 /dev/vda | sha256sum";

fn each_packing_is_written_and_the_partition_grows() {
    let (site, server) = (Site::new(), Server::start());
    shell(
        site.folder.path(),
        "gzip -1k disk.img; bzip2 -1k disk.img; zstd -qk disk.img; xz -1 -T2 --block-size=4MiB -k disk.img",
    );
    let machine = power_on(&server, &[site.disk("vda", DISK)]);
    for name in ["disk.img", "disk.img.gz", "disk.img.bz2", "disk.img.zst", "disk.img.xz"] {
        site.put(&server, name);
        let hash = sha256(&site.path(name));
        let report = written(&machine, &format!("--verify --sha256 {hash} {} /dev/vda", server.url(name)));
        assert_eq!((&report["format"], &report["written"]), (&1.into(), &IMAGE.into()), "{report}");
        assert_eq!(
            (&report["verified"]["by"], &report["read_back"]),
            (&"sha256".into(), &true.into()),
            "{report}"
        );
        assert!(ssh_ok(&machine, WHOLE).starts_with(&site.sha256), "{name}");
        ssh_ok(
            &machine,
            "test -b /dev/vda1 && rescue write --yes --insecure-no-verify /proc/version /dev/vda",
        );
    }
    // By standard input, with a signature, growing.
    run(Command::new(program("boot-files"))
        .arg("sign")
        .arg(site.path("disk.img.xz"))
        .arg("--key")
        .arg(&Images::get().image_key));
    site.put(&server, "disk.img.xz.minisig");
    let line =
        format!("rescue write --yes --grow --minisign {} - /dev/vda", server.url("disk.img.xz.minisig"));
    let output = Command::new("ssh")
        .args(ssh_options(&machine))
        .args(["root@127.0.0.1", &line])
        .stdin(Stdio::from(File::open(site.path("disk.img.xz")).unwrap()))
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(
        output.status.success() && said.contains("signature good") && said.contains("its ext4 fills it"),
        "{output:?}"
    );
    ssh_ok(&machine, "mkdir -p /mnt/new && mount -o ro /dev/vda1 /mnt/new");
    let hash = sha256(&site.path("root/noise"));
    assert!(ssh_ok(&machine, "sha256sum /mnt/new/noise").starts_with(&hash));
    let blocks: u64 = ssh_ok(&machine, "stat -f -c %b /mnt/new").trim().parse().unwrap();
    assert!(blocks * 1024 > 50 * MIB || blocks * 4096 > 50 * MIB, "{blocks} blocks");
    // In use.
    fails(
        &machine,
        &format!("rescue write --yes {} /dev/vda", server.url("disk.img.xz")),
        3,
        &["/mnt/new", "rescue umount"],
    );
}

fn what_is_not_right_never_boots() {
    let (site, server) = (Site::new(), Server::start());
    shell(
        site.folder.path(),
        "gzip -1k disk.img; cp disk.img other.img; printf X | dd of=other.img bs=1 seek=20000000 conv=notrunc status=none",
    );
    let vda = site.disk("vda", DISK);
    let machine = power_on(&server, &[vda.clone(), site.disk("vdb", 16 * MIB)]);
    ssh(&machine, "true");
    let url = |name: &str| server.url(name);
    let image = url("disk.img");
    let any = "--insecure-no-verify";
    refused_before_anything_is_changed(&site, &server, &machine);

    // A wrong hash; a file that ends early; a signature of another file; too small, found out late.
    let wrong = format!("rescue write --yes --sha256 {} {image} /dev/vda", "0".repeat(64));
    fails(&machine, &wrong, 1, &[&site.sha256, "not bootable"]);
    assert_not_bootable(&vda);
    assert_eq!(
        bytes(&vda, 4 * MIB, 4 * MIB),
        bytes(&site.path("disk.img"), 4 * MIB, 4 * MIB),
        "all but the ends"
    );

    let packed = std::fs::read(site.path("disk.img.gz")).unwrap();
    server.put("short.gz", &packed[..packed.len() - 1000]);
    fails(
        &machine,
        &format!("rescue write --yes {any} {} /dev/vda", url("short.gz")),
        1,
        &["unpacking gzip"],
    );
    assert_not_bootable(&vda);

    run(Command::new(program("boot-files"))
        .arg("sign")
        .arg(site.path("disk.img"))
        .arg("--key")
        .arg(&Images::get().image_key));
    std::fs::copy(site.path("disk.img.minisig"), site.path("other.img.minisig")).unwrap();
    for name in ["other.img", "other.img.minisig", "disk.img.minisig"] {
        site.put(&server, name);
    }
    fails(
        &machine,
        &format!("rescue write --yes {} /dev/vda", url("other.img")),
        1,
        &["not what was signed"],
    );
    assert_not_bootable(&vda);

    shell(site.folder.path(), "head -c 20M /dev/urandom > random && gzip -1 random");
    site.put(&server, "random.gz");
    fails(
        &machine,
        &format!("rescue write --yes {any} {} /dev/vdb", url("random.gz")),
        1,
        &["16.0 MiB", "not bootable"],
    );
    assert_not_bootable(&site.path("vdb"));

    // And then the right one.
    written(&machine, &format!("{image} /dev/vda"));
    assert!(ssh_ok(&machine, WHOLE).starts_with(&site.sha256));
    assert!(ssh_ok(&machine, "dmesg").contains("written and right"));
}

/// No signature, too small, no such disk, a partition, nobody to say yes.
fn refused_before_anything_is_changed(site: &Site, server: &Server, machine: &Machine) {
    site.put(server, "disk.img");
    let (image, any) = (server.url("disk.img"), "--insecure-no-verify");
    fails(machine, &format!("rescue write --yes {image} /dev/vda"), 3, &["disk.img.minisig", "--sha256"]);
    fails(
        machine,
        &format!("rescue write --yes {any} {image} /dev/vdb"),
        3,
        &["too small", "25165824", "16777216"],
    );
    fails(machine, &format!("rescue write --yes {any} {image} /dev/vdz"), 3, &["/dev/vdz", "/dev/vda"]);
    fails(machine, &format!("rescue write --yes --partition {any} {image} /dev/vda"), 3, &["whole disk"]);
    fails(machine, &format!("rescue write {any} {image} /dev/vda"), 3, &["--yes"]);
    fails(machine, &format!("rescue write {image}"), 2, &["SOURCE and DEV"]);
    ssh_ok(machine, &format!("rescue write --dry-run {any} {image} /dev/vda"));
    let old: Vec<Vec<u8>> = ["vda", "vdb"].map(|disk| bytes(&site.path(disk), 0, DISK)).into();
    assert!(old.iter().flatten().all(|byte| *byte == b'o'), "the disks are as they were");
}

/// A download that is cut at 10, 50 and 99 percent goes on; one that is cut at 99 percent, with the power, leaves nothing
/// that boots.
fn a_cut_line_goes_on_and_a_power_cut_leaves_nothing_that_boots() {
    let (site, server) = (Site::new(), Server::start());
    site.put(&server, "disk.img");
    let proxy = Proxy::start(server.port, 6 * MIB);
    let vda = site.disk("vda", DISK);
    let machine = power_on(&server, std::slice::from_ref(&vda));
    ssh(&machine, "true");
    let image = format!("http://{HOST}:{}/disk.img", proxy.port);
    let command = format!("rescue write --json --yes --sha256 {} {image} /dev/vda", site.sha256);
    let received =
        || -> u64 { ssh_ok(&machine, "cat /sys/class/net/e*/statistics/rx_bytes").trim().parse().unwrap() };
    let before = received();
    let output = std::thread::scope(|scope| {
        let writing = scope.spawn(|| ssh(&machine, &command));
        for percent in [10, 50, 99] {
            proxy.cut_at(IMAGE * percent / 100, false);
        }
        writing.join().unwrap()
    });
    assert!(output.status.success(), "{output:?}");
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!((&report["resumed"], &report["written"]), (&3.into(), &IMAGE.into()), "{report}");
    assert!(ssh_ok(&machine, WHOLE).starts_with(&site.sha256));
    // What was in the cut connections' buffers, and headers; an anew would be 10, 50 or 99 percent.
    let received = received() - before;
    assert!(received < IMAGE + IMAGE * 8 / 100, "{received} bytes received for an image of {IMAGE}");

    the_session_ends_and_the_download_goes_on(&machine, &proxy, &command);

    // Again, onto a disk with a partition table and other data; the line ends before the last bytes, then the power does.
    ssh_ok(&machine, "dd if=/dev/urandom of=/dev/vda bs=1M seek=2 count=20 conv=notrunc,fsync");
    let mark = proxy.passed();
    std::thread::scope(|scope| {
        let writing = scope.spawn(|| ssh(&machine, &command));
        proxy.cut_at(mark + IMAGE * 99 / 100, true);
        // What was read goes to the disk in chunks: the last whole one is there.
        let last = 16 * MIB;
        wait_until("the data", || bytes(&vda, last, 2 * MIB) == bytes(&site.path("disk.img"), last, 2 * MIB));
        machine.kill();
        assert!(!writing.join().unwrap().status.success());
    });
    machine.wait_for_end(LIMIT).unwrap();
    assert_not_bootable(&vda);
}

fn the_session_ends_and_the_download_goes_on(machine: &Machine, proxy: &Proxy, command: &str) {
    ssh_ok(machine, "dmesg --clear");
    let third = proxy.passed() + IMAGE / 3;
    proxy.hold_at(third);
    let mut client = Command::new("ssh")
        .args(ssh_options(machine))
        .args(["root@127.0.0.1", command])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    proxy.wait_for(third);
    client.kill().unwrap();
    client.wait().unwrap();
    proxy.let_go();
    wait_until("its end", || ssh_ok(machine, "dmesg").contains("/dev/vda: 24.0 MiB written and right"));
}

fn a_failing_disk_is_saved_and_what_was_unread_is_told() {
    let (site, server) = (Site::new(), Server::start());
    let target = site.disk("vdb", DISK);
    shell(site.folder.path(), "mke2fs -q -t ext4 -F vdb");
    let machine = power_on(&server, &[site.path("disk.img"), target]);
    // Sectors 10000 to 10007 and 20000 cannot be read.
    let table = "0 10000 linear /dev/vda 0\\n10000 8 error\\n10008 9992 linear /dev/vda 10008\\n20000 1 error\\n20001 29151 linear /dev/vda 20001\\n";
    ssh_ok(
        &machine,
        &format!("mkdir -p /mnt/to && mount /dev/vdb /mnt/to && printf '{table}' | dmsetup create bad"),
    );

    // As a stream: zeroes for what cannot be read, and nothing else.
    let stream = site.path("stream.zst");
    let output = Command::new("ssh")
        .args(ssh_options(&machine))
        .args(["root@127.0.0.1", "rescue save /dev/mapper/bad"])
        .stdin(Stdio::null())
        .stdout(Stdio::from(File::create(&stream).unwrap()))
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(4), "{said}");
    for part in
        ["bytes 5120000 to 5124095 (8 sectors from 10000)", "bytes 10240000 to 10240511", &sha256(&stream)]
    {
        assert!(said.contains(part), "{part} in {said}");
    }
    let mut expected = std::fs::read(site.path("disk.img")).unwrap();
    expected[5_120_000..5_124_096].fill(0);
    expected[10_240_000..10_240_512].fill(0);
    std::fs::write(site.path("expected"), &expected).unwrap();
    let hash = sha256(&site.path("expected"));
    assert!(said.contains(&hash), "{said}");
    shell(site.folder.path(), "zstd -qd stream.zst -o stream && cmp stream expected");

    // Into a file, not all of it; then the disk reads again, and the same command gets the rest.
    let save = "rescue save /dev/mapper/bad -o /mnt/to/disk.img";
    let output = ssh(&machine, save);
    let said = String::from_utf8_lossy(&output.stdout);
    assert_eq!(output.status.code(), Some(4), "{output:?}");
    assert!(said.contains(&hash) && said.contains("4.5 KiB could not be read, in 2 places"), "{said}");
    ssh_ok(
        &machine,
        "dmsetup suspend bad && echo '0 49152 linear /dev/vda 0' | dmsetup load bad && dmsetup resume bad",
    );
    let report: Value = serde_json::from_str(&ssh_ok(&machine, &format!("{save} --json"))).unwrap();
    assert_eq!(
        (&report["sha256"], &report["resumed"]),
        (&site.sha256.as_str().into(), &true.into()),
        "{report}"
    );
    assert!(ssh_ok(&machine, "sha256sum /mnt/to/disk.img").starts_with(&site.sha256));

    // Refused: the same disk, RAM, another's map.
    let own = "rescue save /dev/vdb -o /mnt/to/vdb.img";
    fails(&machine, own, 3, &["same disk", "/dev/vdb"]);
    ssh_ok(&machine, "truncate -s 4G /mnt/to/large && losetup /dev/loop7 /mnt/to/large");
    fails(&machine, "rescue save /dev/loop7 -o /tmp/large.img", 3, &["in RAM", "4.0 GiB"]);
    fails(&machine, "rescue save /dev/vdb -o /mnt/to/disk.img", 3, &["another name"]);
    ssh_ok(&machine, "test ! -e /mnt/to/vdb.img -a ! -e /tmp/large.img");
}

fn wait_until(what: &str, mut done: impl FnMut() -> bool) {
    let began = Instant::now();
    while !done() {
        assert!(began.elapsed() < LIMIT, "waiting for {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}
