//! What goes wrong on an image's way.

use std::path::PathBuf;
use std::sync::OnceLock;
use std::time::Duration;

use init::status::BootStatus;
use virtual_pi::machine::{Line, Machine};

use super::{Outcome, Row, day};
use crate::site::images::{folder, make_os, tiny_root};
use crate::site::proxy::Proxy;
use crate::site::{HOST, Images, Server, ssh_ok, wait, wait_console};

pub(crate) const WAITING: &[Row] =
    &[("one frame of ten is lost", || bad_line(Line { loss_percent: 10, ..GOOD }))];

pub(crate) const ROWS: &[Row] = &[
    ("cut at 10 percent", || cut_at(10)),
    ("cut at 50 percent", || cut_at(50)),
    ("cut at 99 percent", || cut_at(99)),
    ("the server starts anew", the_server_starts_anew),
    ("one mirror goes, another is there", one_mirror_goes),
    ("a wrong byte", a_wrong_byte),
    ("a truncated file", a_truncated_file),
    ("a captive portal, then the image", a_captive_portal),
    ("too big for the RAM", too_big),
    ("256 kbit/s", || bad_line(Line { rate: Some(256_000), ..GOOD })),
    ("2 s there and back", || bad_line(Line { delay: Duration::from_secs(1), ..GOOD })),
];

const GOOD: Line = Line { loss_percent: 0, delay: Duration::ZERO, rate: None, seed: 1 };
/// A rate at which the 24 MiB take long enough to step in.
const SLOW: u64 = 4 << 20;
/// The manifest, its signature, and the heads of the answers.
const BESIDE: u64 = 64 << 10;
const CHUNK: u64 = 1 << 20;

fn size() -> u64 {
    Images::get().tiny.metadata().unwrap().len()
}

/// A server with the image, and a proxy before it.
fn site() -> (Server, Proxy) {
    let server = Server::start();
    server.put_os(&Images::get().tiny);
    let proxy = Proxy::start(server.port, SLOW);
    (server, proxy)
}

fn url(proxy: &Proxy) -> String {
    format!("root=live:http://{HOST}:{}/tiny.squashfs", proxy.port)
}

fn wait_for_percent(machine: &Machine, percent: u64) {
    let there = move |status: &BootStatus| {
        status.progress.is_some_and(|progress| progress.bytes >= size() * percent / 100)
    };
    wait(machine, "the fetch", there);
}

/// Invariant 7: what arrived is not fetched again, but for what was on its way.
fn in_the_os(machine: &Machine, passed: u64) -> String {
    wait_console(machine, "TEST-OS end");
    let more = passed.saturating_sub(size());
    assert!(more <= 2 * CHUNK + BESIDE, "{passed} bytes came over the wire for {}", size());
    format!("the OS; {} KiB more than the image came over the wire", more >> 10)
}

fn cut_at(percent: u64) -> Outcome {
    let (server, proxy) = site();
    let machine = server.power_on(&url(&proxy));
    day(&machine, || {
        proxy.cut_at(size() * percent / 100, false);
        in_the_os(&machine, proxy.passed())
    })
}

fn the_server_starts_anew() -> Outcome {
    let (mut server, proxy) = site();
    proxy.hold_at(size() * 80 / 100);
    let machine = server.power_on(&url(&proxy));
    day(&machine, || {
        wait_for_percent(&machine, 50);
        server.kill();
        proxy.cut(true);
        wait_console(&machine, "fetch: failed: ");
        assert!(ssh_ok(&machine, "rescue status").contains("fetch"), "SSH answers meanwhile");
        server.run();
        proxy.pass();
        in_the_os(&machine, proxy.passed())
    })
}

fn one_mirror_goes() -> Outcome {
    let (server, first) = site();
    let second = Proxy::start(server.port, SLOW);
    first.hold_at(size() * 80 / 100);
    let machine = server.power_on(&format!("{} {}", url(&second), url(&first)));
    day(&machine, || {
        wait_for_percent(&machine, 40);
        first.cut(true);
        wait_console(&machine, &format!("going on with http://{HOST}:{}", second.port));
        let end = in_the_os(&machine, first.passed() + second.passed());
        format!("{end}, {} percent of it from the second", second.passed() * 100 / size())
    })
}

fn a_wrong_byte() -> Outcome {
    let server = Server::start();
    server.put_os(&Images::get().tiny);
    let good = std::fs::read(&Images::get().tiny).unwrap();
    let mut bad = good.clone();
    bad[7 * (1 << 20) + 17] ^= 1;
    server.put("tiny.squashfs", &bad);
    let machine = server.power_on(&format!("root=live:{}", server.url("tiny.squashfs")));
    day(&machine, || {
        wait_console(&machine, "fetching chunk 7 of .* again");
        let refused = |status: &BootStatus| {
            let error = status.last_error.as_ref();
            error.is_some_and(|error| error.step == "fetch" && error.error.contains("chunk 7 of"))
        };
        let status = wait(&machine, "a refusal", refused);
        assert!(status.last_error.unwrap().error.contains("is not what was signed"));
        assert!(ssh_ok(&machine, "rescue status").contains("chunk 7"));
        // The same image, mended: one chunk is left to fetch.
        server.put("tiny.squashfs", &good);
        wait_console(&machine, "fetched 1.0 MiB in ");
        wait_console(&machine, "TEST-OS end");
        "refused by name; mended: the OS, one chunk fetched anew".into()
    })
}

fn a_truncated_file() -> Outcome {
    let server = Server::start();
    server.put_os(&Images::get().tiny);
    let good = std::fs::read(&Images::get().tiny).unwrap();
    server.put("tiny.squashfs", &good[..good.len() / 2]);
    let machine = server.power_on(&format!("root=live:{}", server.url("tiny.squashfs")));
    day(&machine, || {
        wait(&machine, "a truncated file", |status| {
            let error = status.last_error.as_ref();
            error.is_some_and(|error| error.error.contains("bytes") && error.step == "fetch")
        });
        server.put("tiny.squashfs", &good);
        wait_console(&machine, "TEST-OS end");
        "named; mended: the OS".into()
    })
}

fn a_captive_portal() -> Outcome {
    let (server, proxy) = site();
    proxy.answer_with_a_page(true);
    let machine = server.power_on(&url(&proxy));
    day(&machine, || {
        let told = |status: &BootStatus| {
            status.last_error.as_ref().is_some_and(|error| error.error.contains("captive portal"))
        };
        wait(&machine, "the portal", told);
        assert!(ssh_ok(&machine, "rescue status").contains("captive portal"));
        proxy.answer_with_a_page(false);
        format!("told; after the login {}", in_the_os(&machine, proxy.passed()))
    })
}

/// Serves a signed manifest of 2 GiB, and nothing behind it.
fn put_huge(server: &Server) {
    let manifest = std::fs::read(Images::get().tiny.with_extension("json")).unwrap();
    let mut manifest: serde_json::Value = serde_json::from_slice(&manifest).unwrap();
    manifest["size"] = (2_u64 << 30).into();
    manifest["blake3"] = vec!["00".repeat(32); 2048].into();
    let folder = tempfile::tempdir_in(folder()).unwrap();
    let huge = folder.path().join("huge.json");
    std::fs::write(&huge, manifest.to_string()).unwrap();
    crate::site::images::sign(&huge);
    for name in ["huge.json", "huge.json.minisig"] {
        server.put(name, &std::fs::read(folder.path().join(name)).unwrap());
    }
}

/// Refused with its figures; and since the manifest goes well at every try, which is no progress, invariant 2: it reboots.
fn too_big() -> Outcome {
    let server = Server::start();
    put_huge(&server);
    let append = format!("root=live:{} lifeboat.reboot_after=30", server.url("huge.squashfs"));
    let machine = server.power_on(&append);
    day(&machine, || {
        let status = wait(&machine, "a refusal", |status| status.last_error.is_some());
        let error = status.last_error.unwrap();
        assert!(error.step == "budget" && error.error.contains("the image needs 2.0 GiB"), "{error:?}");
        wait_console(&machine, "neither progress nor a login for 30 s: rebooting");
        assert!(machine.console().matches("manifest: done").count() >= 2, "{}", machine.console());
        machine.wait_for_end(crate::site::LIMIT).unwrap();
        "refused with the figures; a reboot when nobody came".into()
    })
}

/// The test OS without its noise: a megabyte.
fn small() -> PathBuf {
    static MADE: OnceLock<PathBuf> = OnceLock::new();
    let make = || {
        let squashfs = folder().join("small.squashfs");
        let root = tempfile::tempdir_in(folder()).unwrap();
        let files = root.path().join("root");
        tiny_root(&files);
        let _ = std::fs::remove_file(&squashfs);
        make_os(&files, &squashfs, &Images::get().image_key);
        squashfs
    };
    MADE.get_or_init(make).clone()
}

/// The TCP of QEMU's user network waits seconds for each frame that is lost.
const PATIENCE: Duration = Duration::from_secs(900);

fn bad_line(line: Line) -> Outcome {
    let server = Server::start();
    server.put_os(&small());
    let append = format!("root=live:{}", server.url("small.squashfs"));
    let machine = server.power_on_with(&append, |options| {
        options.line = Some(line);
        options.time_limit = PATIENCE * 2;
    });
    day(&machine, || {
        if let Err(error) = machine.wait_for_console("TEST-OS end", PATIENCE) {
            panic!("{error:#}\nconsole:\n{}", machine.console());
        }
        let traffic = machine.traffic().unwrap();
        // A modem's buffer loses some as well.
        assert!(line.loss_percent == 0 || traffic.lost() > traffic.passed() / 20, "{traffic:?}");
        format!("the OS, over {} frames, {} lost", traffic.passed(), traffic.lost())
    })
}
