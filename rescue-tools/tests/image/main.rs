//! `rescue write`'s way from a source to a disk, with the programs that people pack and sign with, and with a server that
//! cuts connections. The disk is a file.
#![allow(
    missing_docs,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    reason = "a test may panic"
)]

mod server;

use std::fs::{File, OpenOptions};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;

use anyhow::Result;
use rescue_tools::image::disk::Written;
use rescue_tools::image::medium::DiskFile;
use rescue_tools::image::progress::Progress;
use rescue_tools::image::proof::{Keys, Wanted};
use rescue_tools::image::readback::Hashes;
use rescue_tools::image::source::Place;
use rescue_tools::image::verify::{Verified, hex};
use rescue_tools::image::write::{Order, open};
use rescue_tools::refusal::Refused;
use server::Server;
use sha2::{Digest, Sha256};
use tempfile::TempDir;

const MIB: usize = 1 << 20;
const OLD: u8 = 0xaa;
const SIZE: usize = 24 * MIB;

/// Nine MiB and a little: noise, text, zeroes.
fn image() -> Vec<u8> {
    let mut state = 0x9e37_79b9_u32;
    let mut noise = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 24) as u8
    };
    let byte = |at: usize| match at / (MIB / 2) % 4 {
        0 => noise(),
        1 | 2 => b"some text that packs well\n"[at % 26],
        _ => 0,
    };
    (0..9 * MIB + 777).map(byte).collect()
}

/// A folder with `disk`, a disk of [`SIZE`] that was in use.
fn folder() -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("disk"), vec![OLD; SIZE]).unwrap();
    folder
}

/// What a shell line makes of `bytes`, which it has as `$f`.
fn packed(line: &str, bytes: &[u8]) -> Vec<u8> {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("f");
    std::fs::write(&file, bytes).unwrap();
    let output = Command::new("bash")
        .args(["-o", "pipefail", "-ec", line])
        .env("f", &file)
        .stdin(Stdio::null())
        .stderr(Stdio::inherit())
        .output()
        .unwrap();
    assert!(output.status.success(), "{line} (Debian packages: xz-utils zstd gzip bzip2 pigz pbzip2)");
    output.stdout
}

/// The program that fetches, built beside us.
fn init() -> PathBuf {
    let path = Path::new(env!("CARGO_BIN_EXE_rescue")).with_file_name("init");
    assert!(path.exists(), "{} is missing: cargo build -p init --features init/pid1", path.display());
    path
}

fn order(source: Place) -> Order {
    let keys = Keys::Folder("/nowhere".into());
    Order { source, wanted: Wanted::Unchecked, keys, init: init(), retries: 3, spare: 1 << 30 }
}

/// Writes, as the verb does.
fn write(order: &Order, disk: &Path) -> Result<(Written, Verified, u32)> {
    let progress = Arc::new(Progress::new(true));
    let image = open(order, &progress)?;
    let file = OpenOptions::new().read(true).write(true).open(disk).unwrap();
    let mut medium = DiskFile::new(&file, file.metadata().unwrap().len(), 4096);
    image.fits(file.metadata().unwrap().len(), false)?;
    let mut hashes = Hashes::default();
    let (written, verified) = image.write(&mut medium, Some(&mut hashes), &progress)?;
    hashes.check(&mut medium, &progress)?;
    Ok((written, verified, progress.breaks()))
}

fn write_bytes(bytes: &[u8], folder: &TempDir) -> Result<(Written, Verified, u32)> {
    let source = folder.path().join("source");
    std::fs::write(&source, bytes).unwrap();
    write(&order(Place::File(source)), &folder.path().join("disk"))
}

fn assert_written(folder: &TempDir, image: &[u8]) {
    let disk = std::fs::read(folder.path().join("disk")).unwrap();
    assert!(disk[..image.len()] == *image, "the image");
    assert!(disk[image.len()..SIZE - MIB].iter().all(|byte| *byte == OLD), "what is behind it");
    assert!(disk[SIZE - MIB..].iter().all(|byte| *byte == 0), "the end");
}

/// Visibly not bootable: zeroes at both ends, whatever is between them.
fn assert_not_bootable(folder: &TempDir) {
    let disk = std::fs::read(folder.path().join("disk")).unwrap();
    assert!(disk[..MIB].iter().chain(&disk[SIZE - MIB..]).all(|byte| *byte == 0));
}

fn assert_untouched(folder: &TempDir) {
    assert!(std::fs::read(folder.path().join("disk")).unwrap().iter().all(|byte| *byte == OLD));
}

const PACKERS: [&str; 16] = [
    "cat $f",
    "gzip -c $f",
    "pigz -c $f",
    "head -c 3000000 $f | gzip; tail -c +3000001 $f | gzip; head -c 1000 /dev/zero",
    "bzip2 -c $f",
    "pbzip2 -c $f",
    "xz -c $f",
    "xz -0 -T4 --block-size=1MiB -c $f",
    "xz -9 --check=sha256 -c $f",
    "head -c 3000000 $f | xz -1; head -c 512 /dev/zero; tail -c +3000001 $f | xz -1 -T2",
    "zstd -q -c $f",
    "zstd -q -19 --long=27 -c $f",
    "cat $f | zstd -q --no-check",
    "head -c 3000000 $f | zstd -q; tail -c +3000001 $f | zstd -q",
    // A skippable frame, as pzstd puts it before each of its own.
    "printf '\\x50\\x2a\\x4d\\x18\\x04\\0\\0\\0abcd'; zstd -q -c $f",
    "zstd -q --format=gzip -c $f 2>/dev/null || gzip -c $f",
];

#[test]
fn each_packing_is_unpacked_by_what_it_is() {
    let image = image();
    for line in PACKERS {
        let folder = folder();
        let (written, ..) =
            write_bytes(&packed(line, &image), &folder).unwrap_or_else(|error| panic!("{line}: {error:#}"));
        assert_eq!(written.bytes, image.len() as u64, "{line}");
        assert!(written.zeroes > MIB as u64, "{line}");
        assert_written(&folder, &image);
    }
}

/// A packed image that is cut short, or has a wrong bit, never gets its ends, even where nobody wanted a check.
#[test]
fn what_is_broken_is_an_error() {
    let image = image();
    for line in PACKERS.iter().filter(|line| **line != "cat $f" && !line.contains("no-check")) {
        let packed = packed(line, &image);
        let mut damaged = packed.clone();
        damaged[packed.len() / 2] ^= 0x10;
        let mut trailing = packed.clone();
        trailing.extend_from_slice(b"something else behind it");
        // A member's end, or padding behind it, is no place to see that more was to come: the signature is for that.
        let padded = line.contains("/dev/zero");
        let short = packed[..packed.len() - if padded { 1100 } else { 5 }].to_vec();
        for (kind, bytes) in [("short", short), ("damaged", damaged), ("trailing", trailing)] {
            if kind == "short" && line.contains("512") {
                continue;
            }
            let folder = folder();
            let error = write_bytes(&bytes, &folder).expect_err(&format!("{line}: {kind}"));
            assert!(error.to_string().contains("unpacking"), "{line}: {kind}: {error:#}");
            // What shows in the first chunk is known before anything is changed.
            if std::fs::read(folder.path().join("disk")).unwrap()[0] != OLD {
                assert_not_bootable(&folder);
            }
        }
    }
}

#[test]
fn what_is_no_image_is_refused_and_the_disk_is_as_it_was() {
    let image = image();
    for (line, words) in [
        ("cd $(dirname $f); tar -c f | xz -1", "tar archive"),
        ("gzip -c $f | zstd -q", "packed twice"),
        (": > $f; cat $f", "is empty"),
        ("gzip < /dev/null", "nothing"),
        ("echo '<!DOCTYPE html><title>Login</title>'", "web page"),
        ("printf 'PK\\003\\004......'", "zip archive"),
    ] {
        let folder = folder();
        let error = write_bytes(&packed(line, &image), &folder).unwrap_err();
        assert!(error.is::<Refused>() && error.to_string().contains(words), "{line}: {error:#}");
        assert_untouched(&folder);
    }
}

#[test]
fn what_needs_too_much_memory_is_refused_with_the_figure() {
    let image = image();
    for (line, words) in [
        ("xz -c --lzma2=preset=0,dict=512MiB $f", "160.0 MiB"),
        ("cat $f | zstd -q --long=31 --ultra -22 -c", "128.0 MiB"),
    ] {
        let folder = folder();
        let error = write_bytes(&packed(line, &image), &folder).unwrap_err();
        assert!(format!("{error:#}").contains(words), "{line}: {error:#}");
        assert_untouched(&folder);
    }
}

#[test]
fn a_disk_that_is_too_small_is_known_as_early_as_can_be() {
    let partitioned = |label: &str, line: &str| {
        let made = format!(
            "truncate -s 32M $f; printf 'label: {label}\\nstart=8MiB,size=20MiB\\n' | sfdisk -q $f; {line}"
        );
        packed(&made, &[])
    };
    // Raw: by its length. zstd: by its header. All others: by the partition table.
    for (bytes, figure) in [
        (vec![1; SIZE + 1], (SIZE + 1).to_string()),
        (packed("zstd -q -c $f", &vec![1; SIZE + 1]), (SIZE + 1).to_string()),
        (partitioned("gpt", "gzip -c $f"), (32 * MIB).to_string()),
        (partitioned("dos", "bzip2 -c $f"), (28 * MIB).to_string()),
    ] {
        let folder = folder();
        let error = write_bytes(&bytes, &folder).unwrap_err();
        let said = error.to_string();
        assert!(
            error.is::<Refused>() && said.contains(&figure) && said.contains(&SIZE.to_string()),
            "{said}"
        );
        assert_untouched(&folder);
    }
    // Where nothing says it, at the end of the disk.
    let folder = folder();
    let error = write_bytes(&packed("gzip -c $f", &vec![1; SIZE + 1]), &folder).unwrap_err();
    assert!(!error.is::<Refused>() && error.to_string().contains("24.0 MiB"), "{error:#}");
    assert_not_bootable(&folder);
}

#[test]
fn the_hash_is_that_of_the_source_as_it_came() {
    let image = image();
    let packed = packed("xz -1 -c $f", &image);
    let folder = folder();
    let source = folder.path().join("source");
    std::fs::write(&source, &packed).unwrap();
    let hash: [u8; 32] = Sha256::digest(&packed).into();
    let mut wrong = hash;
    wrong[31] ^= 1;
    let disk = folder.path().join("disk");
    let order = |hash| Order { wanted: Wanted::Sha256(hash), ..order(Place::File(source.clone())) };
    let error = write(&order(wrong), &disk).unwrap_err().to_string();
    assert!(error.contains(&hex(&hash)) && error.contains(&hex(&wrong)), "{error}");
    assert_not_bootable(&folder);
    let (_, verified, _) = write(&order(hash), &disk).unwrap();
    assert_eq!((verified.bytes(), verified.text().as_str()), (packed.len() as u64, "SHA-256 as given"));
    assert_written(&folder, &image);
}

/// Keys and signatures by `minisign` itself.
fn minisign(folder: &Path, arguments: &[&str]) {
    let output = Command::new("minisign").current_dir(folder).args(arguments).output();
    let output = output.expect("minisign (Debian package: minisign)");
    assert!(output.status.success(), "{arguments:?}: {output:?}");
}

#[test]
fn a_signature_counts_if_it_is_by_a_key_that_is_trusted() {
    let image = image();
    let folder = folder();
    let path = |name: &str| -> PathBuf { folder.path().join(name) };
    let disk = path("disk");
    std::fs::write(path("source"), packed("zstd -q -c $f", &image)).unwrap();
    std::fs::create_dir(path("keys")).unwrap();
    for name in ["one", "two"] {
        minisign(folder.path(), &["-G", "-W", "-p", &format!("{name}.pub"), "-s", &format!("{name}.key")]);
    }
    std::fs::copy(path("one.pub"), path("keys/one.pub")).unwrap();
    let keys = Keys::Folder(path("keys"));
    let order = Order { wanted: Wanted::Minisign(None), keys, ..order(Place::File(path("source"))) };
    let refusal = |order: &Order| {
        let error = write(order, &disk).unwrap_err();
        assert!(error.is::<Refused>(), "{error:#}");
        assert_untouched(&folder);
        error.to_string()
    };
    // None, one by a stranger, one of the old kind.
    assert!(refusal(&order).contains("--insecure-no-verify"));
    minisign(folder.path(), &["-S", "-s", "two.key", "-m", "source"]);
    assert!(refusal(&order).contains("none of the 1 keys"));
    minisign(folder.path(), &["-S", "-l", "-s", "one.key", "-m", "source"]);
    assert!(refusal(&order).contains("old kind"));
    let no_keys = Order { keys: Keys::Folder(path("none")), ..order.clone() };
    assert!(refusal(&no_keys).contains("no public key"));

    minisign(folder.path(), &["-S", "-s", "one.key", "-m", "source", "-t", "the right one"]);
    let (_, verified, _) = write(&order, &disk).unwrap();
    assert_eq!(verified.text(), "signature good (the right one)");
    assert_written(&folder, &image);

    // A good signature of other bytes, of the same length.
    let mut source = std::fs::read(path("source")).unwrap();
    std::fs::write(path("other"), {
        source[20] ^= 1;
        &source
    })
    .unwrap();
    std::fs::rename(path("source.minisig"), path("other.minisig")).unwrap();
    let key = std::fs::read_to_string(path("one.pub")).unwrap().lines().nth(1).unwrap().to_string();
    let order = Order { source: Place::File(path("other")), keys: Keys::One(key), ..order };
    write(&order, &disk).unwrap_err();
    assert_not_bootable(&folder);
    minisign(folder.path(), &["-S", "-s", "two.key", "-m", "source"]);
    let elsewhere = Wanted::Minisign(Some(Place::File(path("source.minisig"))));
    let keys = Keys::One(path("two.pub").display().to_string());
    write(&Order { source: Place::File(path("source")), wanted: elsewhere, keys, ..order }, &disk).unwrap();
    assert_written(&folder, &image);
}

#[test]
fn a_download_goes_on_where_it_broke_and_fetches_no_byte_twice() {
    let image = image();
    let bytes = packed("gzip -1 -c $f", &image);
    let total = bytes.len() as u64;
    let server = Server::start(bytes);
    {
        let mut site = server.site.lock().unwrap();
        site.cuts = vec![0, total / 10, total / 2, total * 99 / 100, total - 1];
        site.busy = 1;
    }
    let folder = folder();
    let order = order(Place::parse(&server.url("a.gz")).unwrap());
    let (_, verified, breaks) = write(&order, &folder.path().join("disk")).unwrap();
    assert_written(&folder, &image);
    let site = server.site.lock().unwrap();
    assert_eq!((site.sent, verified.bytes(), breaks), (total, total, 4), "{:?}", site.requests);
    // A cut before the first byte is no resume: 503, 200, 200, then the rest four times.
    assert_eq!(site.requests.len(), 7, "{:?}", site.requests);
}

#[test]
fn a_length_that_nobody_says_is_no_trouble() {
    let image = image();
    let server = Server::start(packed("xz -0 -c $f", &image));
    server.site.lock().unwrap().says_length = false;
    let folder = folder();
    write(&order(Place::parse(&server.url("a.xz")).unwrap()), &folder.path().join("disk")).unwrap();
    assert_written(&folder, &image);
}

#[test]
fn a_download_that_cannot_go_on_says_why() {
    let bytes = packed("gzip -1 -c $f", &image());
    let half = bytes.len() as u64 / 2;
    let start = || {
        let server = Server::start(bytes.clone());
        server.site.lock().unwrap().cuts = vec![half];
        server
    };
    let fails = |server: &Server| {
        let folder = folder();
        let order = order(Place::parse(&server.url("a.gz")).unwrap());
        let error = write(&order, &folder.path().join("disk")).unwrap_err();
        assert_not_bootable(&folder);
        format!("{error:#}")
    };
    let server = start();
    server.site.lock().unwrap().ranges = false;
    assert!(fails(&server).contains("cannot resume"));
    // Another file by the next request: a server that changes its tag at once.
    let server = start();
    let site = server.site.clone();
    let watch = std::thread::spawn(move || {
        while site.lock().unwrap().sent == 0 {
            std::thread::yield_now();
        }
        site.lock().unwrap().etag = "\"two\"".into();
    });
    assert!(fails(&server).contains("has changed"));
    watch.join().unwrap();
    // Nothing but cuts: so many tries in a row, and no more.
    let server = start();
    server.site.lock().unwrap().cuts = vec![half; 50];
    let said = fails(&server);
    assert!(said.contains("giving up after 4 tries"), "{said}");
    assert_eq!(server.site.lock().unwrap().requests.len(), 4);
}

#[test]
fn what_is_not_there_is_said_at_once_and_the_disk_is_as_it_was() {
    let folder = folder();
    let disk = folder.path().join("disk");
    let server = Server::start(vec![1; 100]);
    let order = order(Place::parse(&server.url("a.minisig")).unwrap());
    assert!(format!("{:#}", write(&order, &disk).unwrap_err()).contains("404"));
    let unsigned = Order {
        wanted: Wanted::Minisign(None),
        keys: Keys::One("RWQf6LRCGA9i53mlYecO4IzT51TGPpvWucNSCh1CBM0QTaLn73Y7GFO3".into()),
        ..order
    };
    let unsigned = Order { source: Place::parse(&server.url("a.img")).unwrap(), ..unsigned };
    let error = write(&unsigned, &disk).unwrap_err();
    assert!(error.is::<Refused>() && format!("{error:#}").contains("a.img.minisig"), "{error:#}");
    let nobody = Order {
        source: Place::parse("http://127.0.0.1:1/a").unwrap(),
        wanted: Wanted::Unchecked,
        retries: 1,
        ..unsigned
    };
    let error = format!("{:#}", write(&nobody, &disk).unwrap_err());
    assert!(error.contains("giving up after 2 tries") && error.contains("refused"), "{error}");
    assert_untouched(&folder);
    assert!(File::open(&disk).is_ok());
}
