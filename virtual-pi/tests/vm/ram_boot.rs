//! Boots into RAM, and what goes wrong on the way. The OS is a small one, so that each fault is quick; `vm::debian` has a
//! real one.

use crate::site::images::{folder, sign_os};
use crate::site::proxy::Proxy;
use crate::site::{HOST, Images, LIMIT, Server, kill_9, ssh_ok, wait, wait_console};

tests![
    an_image_is_fetched_verified_and_handed_over_to,
    a_worker_killed_mid_fetch_resumes,
    an_image_that_comes_late_is_found,
    an_image_signed_by_a_stranger_is_refused,
    a_hand_over_waits_for_a_human,
    an_image_without_an_os_is_named,
    every_step_that_fails_is_retried,
    a_hand_over_that_fails_leads_back,
];

/// A rate at which the 24 MiB take long enough for a test to step in.
const SLOW: u64 = 4 << 20;

fn an_image_is_fetched_verified_and_handed_over_to() {
    let server = Server::start();
    server.put_os(&Images::get().tiny);
    let machine = server.power_on(&format!("root=live:{} -- single", server.url("tiny.squashfs")));
    wait_console(&machine, "TEST-OS end");
    let console = machine.console();
    for part in ["TEST-OS pid 1 arguments single", "TEST-OS root overlay", "nameserver", "modules.dep"] {
        assert!(console.contains(part), "{part} in\n{console}");
    }
    assert!(console.contains(r#""step":"hand-over""#), "/run is kept: {console}");
    let steps: Vec<&str> = init::steps::COMMON.iter().chain(&init::steps::RAM_BOOT).copied().collect();
    for (step, number) in steps.iter().zip(1..).take(steps.len() - 1) {
        assert!(
            console.contains(&format!("{number}/{} {step}: done, ", steps.len())),
            "{step} in\n{console}"
        );
    }
}

fn a_worker_killed_mid_fetch_resumes() {
    let server = Server::start();
    server.put_os(&Images::get().tiny);
    let size = Images::get().tiny.metadata().unwrap().len();
    let proxy = Proxy::start(server.port, SLOW);
    let machine = server.power_on(&format!("root=live:http://{HOST}:{}/tiny.squashfs", proxy.port));
    let half = |status: &init::status::BootStatus| status.progress.is_some_and(|p| p.bytes >= size / 2);
    proxy.hold_at(size * 3 / 4);
    wait(&machine, "half of it", half);
    assert!(kill_9(&machine, "init boot").status.success());
    proxy.let_go();
    wait_console(&machine, "chunks are there and good: not fetched again");
    wait_console(&machine, "TEST-OS end");
    let received: u64 = figure(&machine.console(), "TEST-OS received ");
    // What was on its way when the worker died is lost: a queue of chunks and the socket's buffers.
    assert!(received < size + size / 2, "{received} bytes received for an image of {size}");
}

fn an_image_that_comes_late_is_found() {
    let server = Server::start();
    let machine = server.power_on(&format!("root=live:{}", server.url("tiny.squashfs")));
    let status = wait(&machine, "404", |status| status.last_error.is_some());
    let error = status.last_error.unwrap();
    assert!(error.step == "manifest" && error.error.contains("404"), "{error:?}");
    server.put_os(&Images::get().tiny);
    wait_console(&machine, "TEST-OS end");
}

fn an_image_signed_by_a_stranger_is_refused() {
    let server = Server::start();
    let stranger = folder().join("stranger.squashfs");
    let _ = std::fs::remove_file(&stranger);
    std::fs::copy(&Images::get().tiny, &stranger).unwrap();
    sign_os(&stranger, &Images::get().other_key);
    server.put_os(&stranger);
    let machine = server.power_on(&format!("root=live:{}", server.url("stranger.squashfs")));
    let status = wait(&machine, "a refusal", |status| status.last_error.is_some());
    let error = status.last_error.unwrap();
    assert!(error.step == "manifest" && error.error.contains("none of the 1 public keys"), "{error:?}");
    let fetched = |record: &serde_json::Value| record.to_string().contains("stranger.squashfs");
    ssh_ok(&machine, "true");
    assert!(!server.log().iter().any(fetched), "not a byte of it was fetched");
}

/// Whoever is at work in the rescue is not thrown out by a boot that succeeds meanwhile.
fn a_hand_over_waits_for_a_human() {
    let server = Server::start();
    let machine = server.power_on(&format!("root=live:{}", server.url("tiny.squashfs")));
    wait(&machine, "404", |status| status.last_error.is_some());
    machine.ssh_banner(LIMIT).unwrap();
    let mut human = std::process::Command::new("ssh")
        .args(crate::site::ssh_options(&machine))
        .args(["root@127.0.0.1", "echo here; sleep 1000"])
        .stdout(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    let mut said = [0; 4];
    std::io::Read::read_exact(human.stdout.as_mut().unwrap(), &mut said).unwrap();
    server.put_os(&Images::get().tiny);
    wait(&machine, "the wait", |status| status.step == "hand-over" && status.next.contains("logged in"));
    human.kill().unwrap();
    human.wait().unwrap();
    wait_console(&machine, "TEST-OS end");
}

fn an_image_without_an_os_is_named() {
    let server = Server::start();
    let empty = folder().join("empty");
    std::fs::create_dir_all(empty.join("etc")).unwrap();
    let squashfs = folder().join("empty.squashfs");
    crate::site::images::run(
        std::process::Command::new(crate::site::program("boot-files"))
            .arg("os")
            .arg(&empty)
            .args(["--no-init-check", "--output"])
            .arg(&squashfs)
            .arg("--key")
            .arg(&Images::get().image_key),
    );
    server.put_os(&squashfs);
    let machine = server.power_on(&format!("root=live:{}", server.url("empty.squashfs")));
    let status = wait(&machine, "a refusal", |status| status.last_error.is_some());
    let error = status.last_error.unwrap();
    assert!(error.step == "mount" && error.error.contains("no /sbin/init"), "{error:?}");
    ssh_ok(&machine, "true");
}

/// Each step is made to fail once; each time the cause is named, and the boot arrives all the same.
fn every_step_that_fails_is_retried() {
    let server = Server::start();
    server.put_os(&Images::get().tiny);
    let steps: Vec<&str> = init::steps::COMMON.iter().chain(&init::steps::RAM_BOOT).copied().collect();
    let fail: String = steps.iter().map(|step| format!(" lifeboat.fail={step}")).collect();
    let machine = server.power_on(&format!("root=live:{}{fail}", server.url("tiny.squashfs")));
    wait_console(&machine, "TEST-OS end");
    let console = machine.console();
    for (step, number) in steps.iter().zip(1..) {
        let line = format!("{number}/{} {step}: failed: asked to fail", steps.len());
        assert!(console.contains(&line), "{line} in\n{console}");
    }
}

/// An exec that fails leads back to the rescue: PID 1 lives, SSH answers, and the image need not be fetched again.
fn a_hand_over_that_fails_leads_back() {
    let server = Server::start();
    server.put_os(&Images::get().tiny);
    // A script is taken for a program that runs; that its interpreter is missing shows at the exec.
    let machine = server.power_on(&format!("root=live:{} init=/sbin/broken", server.url("tiny.squashfs")));
    wait_console(&machine, "handing over to /sbin/broken: executing /sbin/broken: .*; the rescue goes on");
    let status = wait(&machine, "the reason", |status| {
        status.last_error.as_ref().is_some_and(|error| error.step == "hand-over")
    });
    assert!(status.last_error.unwrap().error.contains("executing /sbin/broken: ENOENT"));
    assert!(ssh_ok(&machine, "rescue status").contains("/sbin/broken"));
    ssh_ok(&machine, "test -s /run/lifeboat/image/root.squashfs && test -x /sysroot/sbin/broken");
    assert!(!machine.console().contains("Kernel panic"));
}

fn figure(console: &str, before: &str) -> u64 {
    let (_, after) = console.rsplit_once(before).unwrap();
    after.split(|c: char| !c.is_ascii_digit()).next().unwrap().parse().unwrap()
}
