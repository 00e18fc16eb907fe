//! The machine, with kernels of a few instructions: needs QEMU (Debian packages: qemu-system-arm, qemu-utils,
//! device-tree-compiler, util-linux), and no Linux.

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpListener;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use crate::common::bare_metal::{Finish, program};
use crate::common::{Keys, files_with, image, pi};
use rustix::event::{PollFd, PollFlags};
use rustix::process::{Pid, PidfdFlags, pidfd_open};
use virtual_pi::bootloader::firmware::Boot;
use virtual_pi::machine::{End, Forward, Machine, Options, Sinks};

tests![
    the_kernel_finds_what_the_firmware_left,
    a_reset_ends_it_or_not,
    the_time_limit_holds,
    an_unfinished_line_is_found,
    ports_links_and_frames,
    disks_by_their_content,
    what_qemu_says_is_told,
    an_old_qemu_has_no_raspi4b,
    nothing_is_left_behind,
    qemu_dies_with_its_parent,
    a_signal_ends_both,
    the_time_limit_has_its_exit_code,
];

/// Long enough for anything on a busy host; no test waits so long when all is well.
const LONG: Duration = Duration::from_secs(120);

fn options(kernel: Vec<u8>) -> Options {
    let boot = Boot {
        kernel,
        initramfs: b"initramfs".to_vec(),
        command_line: "one two".into(),
        device_tree: crate::common::device_tree(),
    };
    let mut pi = pi();
    pi.memory = 256;
    Options { cpus: 1, time_limit: LONG, ..Options::new(pi, boot) }
}

fn the_kernel_finds_what_the_firmware_left() {
    let mut options = options(program("that was all\n", true, Finish::PowerOff));
    options.append = "three".into();
    let machine = Machine::start(&options).unwrap();
    assert_eq!(
        machine.wait_for_console("that was .ll", LONG).unwrap().lines().last().unwrap().split("that").count(),
        2
    );
    assert_eq!(machine.wait_for_end(LONG).unwrap(), End::PowerOff);
    let tree = machine.console();
    for words in [
        "Raspberry Pi 4 Model B Rev 1.4\0",
        "100000009ffefdef\0",
        "7669727475616c2d706900000000000000000000\0",
        "linux,revision\0",
        "boot-mode\0",
        "build-timestamp\0",
        "rng-seed\0",
        "one two three\0",
        "linux,initrd-start\0",
        "disabled\0",
    ] {
        assert!(tree.contains(words), "{words:?}");
    }
    let usage = machine.usage();
    assert!(usage.cpu_seconds > 0.0 && usage.peak_rss > 1 << 20, "{usage:?}");
}

fn a_reset_ends_it_or_not() {
    let mut options = options(program("started\n", false, Finish::Reset));
    let machine = Machine::start(&options).unwrap();
    assert_eq!(machine.wait_for_end(LONG).unwrap(), End::Reset);
    assert_eq!(machine.console(), "started\n");

    options.reboots = true;
    let machine = Machine::start(&options).unwrap();
    machine.wait_for_console("started", LONG).unwrap();
    // The mark is after the first start, so this is another one.
    machine.wait_for_console_after(machine.mark(), "started", LONG).unwrap();
    machine.kill();
    assert_eq!(machine.wait_for_end(LONG).unwrap(), End::Killed);
}

fn the_time_limit_holds() {
    let mut options = options(program("still here", false, Finish::Sleep));
    options.time_limit = Duration::from_secs(1);
    let machine = Machine::start(&options).unwrap();
    assert_eq!(machine.wait_for_end(LONG).unwrap(), End::TimeLimit);
    let error = machine.wait_for_console("never said", LONG).unwrap_err().to_string();
    assert!(error.contains("before the machine ended (the time limit was over)"), "{error}");
}

fn an_unfinished_line_is_found() {
    let machine = Machine::start(&options(program("first\nPassphrase: ", false, Finish::Sleep))).unwrap();
    assert_eq!(machine.wait_for_console("^Passphrase:", LONG).unwrap(), "Passphrase:");
    let error = machine.wait_for_console("never said", Duration::ZERO).unwrap_err().to_string();
    assert!(error.contains("within 0 s") && error.ends_with("first\nPassphrase:"), "{error}");
    let error = machine.wait_for_report(|_| true, Duration::ZERO).unwrap_err().to_string();
    assert!(error.contains("on the report port"), "{error}");
    assert!(machine.wait_for_console("(", LONG).is_err());
}

fn ports_links_and_frames() {
    let mut options = options(program("up\n", false, Finish::Sleep));
    options.forwards.push(Forward { host: 0, guest: 8080 });
    options.watchdog = true;
    let machine = Machine::start(&options).unwrap();
    let (ssh, web) = (machine.ssh_port().unwrap(), machine.host_port(8080).unwrap());
    assert!(ssh != 0 && web != 0 && ssh != web);
    assert_eq!(machine.host_port(1), None);
    // The port is taken.
    assert!(TcpListener::bind(("127.0.0.1", ssh)).is_err());
    for on in [false, true] {
        machine.set_link(on).unwrap();
        machine.set_frames_dropped(!on).unwrap();
    }
    let status = machine.qmp("query-status", &serde_json::Value::Null).unwrap();
    assert_eq!(status["status"], "running");
    let error = machine.qmp("no-such-thing", &serde_json::Value::Null).unwrap_err().to_string();
    assert!(error.contains("QEMU refuses no-such-thing"), "{error}");
    // Nobody listens in there.
    assert!(machine.ssh_banner(Duration::from_millis(500)).is_err());
    // A second machine cannot have the same port.
    options.forwards = vec![Forward { host: ssh, guest: 22 }];
    let error = format!("{:#}", Machine::start(&options).unwrap_err());
    assert!(
        error.contains("starting QEMU: QEMU ended by itself") && error.contains("host forwarding"),
        "{error}"
    );
}

fn disks_by_their_content() {
    let folder = tempfile::TempDir::new().unwrap();
    // A comma and a quote are nothing special.
    let (raw, qcow2) = (folder.path().join("a,\"b.img"), folder.path().join("c.img"));
    fs::write(&raw, vec![0; 1 << 20]).unwrap();
    let made = Command::new("qemu-img").args(["create", "-q", "-f", "qcow2"]).arg(&qcow2).arg("10M").status();
    assert!(made.expect("qemu-img runs (Debian package: qemu-utils)").success());
    let mut options = options(program("up\n", false, Finish::Sleep));
    options.disks = vec![raw, qcow2];
    let machine = Machine::start(&options).unwrap();
    let blocks = machine.qmp("query-block", &serde_json::Value::Null).unwrap();
    let formats: Vec<_> =
        blocks.as_array().unwrap().iter().map(|b| b["inserted"]["drv"].as_str().unwrap()).collect();
    assert_eq!(formats, ["raw", "qcow2"]);
    options.disks = vec![folder.path().join("none.img")];
    let error = format!("{:#}", Machine::start(&options).unwrap_err());
    assert!(error.contains("reading the disk") && error.contains("none.img"), "{error}");
}

fn what_qemu_says_is_told() {
    let mut wrong = options(program("", false, Finish::Sleep));
    wrong.qemu_arguments = vec!["-device".into(), "flux-capacitor".into()];
    let error = format!("{:#}", Machine::start(&wrong).unwrap_err());
    assert!(error.contains("flux-capacitor"), "{error}");
    wrong.qemu = "/nonexistent/qemu".into();
    let error = format!("{:#}", Machine::start(&wrong).unwrap_err());
    assert!(error.contains("is not installed (Debian package: qemu-system-arm)"), "{error}");
}

fn an_old_qemu_has_no_raspi4b() {
    use std::os::unix::fs::PermissionsExt;
    let folder = tempfile::TempDir::new().unwrap();
    let old = folder.path().join("old-qemu");
    fs::write(&old, "#!/bin/sh\necho 'QEMU emulator version 7.2.17 (Debian 1:7.2)'\n").unwrap();
    fs::set_permissions(&old, fs::Permissions::from_mode(0o755)).unwrap();
    let mut options = options(program("", false, Finish::Sleep));
    (options.qemu, options.model) = (old, virtual_pi::machine::Model::Raspi4B);
    let error = Machine::start(&options).unwrap_err().to_string();
    assert!(error.contains("QEMU 7 has no raspi4b machine: 9.0 or newer is needed"), "{error}");
}

fn nothing_is_left_behind() {
    let said = Arc::new(Mutex::new(Vec::new()));
    let sinks = Sinks { console: Some(Box::new(Copy(said.clone()))), reports: None };
    let machine = Machine::start_with(&options(program("up\n", false, Finish::Sleep)), sinks).unwrap();
    machine.wait_for_console("up", LONG).unwrap();
    let pid = machine.pid();
    assert!(fs::read(format!("/proc/{pid}/cmdline")).unwrap().starts_with(b"qemu-system-aarch64\0"));
    drop(machine);
    assert!(!Path::new(&format!("/proc/{pid}")).exists());
    assert_eq!(*said.lock().unwrap(), b"up\n");
}

struct Copy(Arc<Mutex<Vec<u8>>>);

impl Write for Copy {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// `virtual-pi run` of a guest that says "up" and sleeps.
fn run_command(keys: &Keys, extra: &[&str]) -> Command {
    let image = image(&files_with(&[("kernel8.img", Some(&program("up\n", false, Finish::Sleep)))]));
    let port = serve(vec![keys.sign(&image), image]);
    let mut command = Command::new(env!("CARGO_BIN_EXE_virtual-pi"));
    command.args([
        "run",
        "--http-host",
        "127.0.0.1",
        "--http-port",
        &port.to_string(),
        "--memory",
        "256",
        "--public-key",
    ]);
    command.arg(keys.path("boot.pub.pem")).args(extra).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

/// Starts it and waits for the "up"; gives also its QEMU's process id.
fn run_program(keys: &Keys, extra: &[&str]) -> (Child, Pid) {
    let mut child = run_command(keys, extra).spawn().unwrap();
    let mut line = String::new();
    BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
    assert_eq!(line, "up\n");
    let threads = fs::read_dir(format!("/proc/{}/task", child.id())).unwrap();
    let children =
        threads.map(|t| fs::read_to_string(t.unwrap().path().join("children")).unwrap()).collect::<String>();
    (child, Pid::from_raw(children.trim().parse().unwrap()).unwrap())
}

/// Serves files in turn, one for each connection.
fn serve(files: Vec<Vec<u8>>) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    thread::spawn(move || {
        for file in files {
            let (mut stream, _) = listener.accept().unwrap();
            let _request = stream.read(&mut [0; 4096]).unwrap();
            write!(stream, "HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", file.len()).unwrap();
            stream.write_all(&file).unwrap();
        }
    });
    port
}

/// Waits until a process that is not our child is gone.
fn wait_until_gone(pid: Pid) {
    let Ok(process) = pidfd_open(pid, PidfdFlags::empty()) else { return };
    let timeout = rustix::event::Timespec { tv_sec: 60, tv_nsec: 0 };
    let mut fds = [PollFd::new(&process, PollFlags::IN)];
    assert_eq!(rustix::event::poll(&mut fds, Some(&timeout)).unwrap(), 1, "QEMU is still there");
}

fn qemu_dies_with_its_parent() {
    let (mut child, qemu) = run_program(&Keys::new(2048), &[]);
    child.kill().unwrap();
    child.wait().unwrap();
    wait_until_gone(qemu);
}

fn a_signal_ends_both() {
    let keys = Keys::new(2048);
    for signal in ["-TERM", "-INT", "-HUP"] {
        let (child, qemu) = run_program(&keys, &["--ssh-port", "0"]);
        assert!(Command::new("kill").args([signal, &child.id().to_string()]).status().unwrap().success());
        let output = child.wait_with_output().unwrap();
        let log = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(130), "{log}");
        assert!(
            log.contains("leads to the guest's port 22") && log.contains("it was killed; QEMU used"),
            "{log}"
        );
        wait_until_gone(qemu);
    }
}

fn the_time_limit_has_its_exit_code() {
    let output = run_command(&Keys::new(2048), &["--time-limit", "1", "--append", "more"]).output().unwrap();
    let log = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(20), "{log}");
    assert!(log.contains("added to the command line, which no real Pi does: more"), "{log}");
}
