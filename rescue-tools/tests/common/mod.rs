//! A server of its own for each test, and OpenSSH's client to talk to it.

// Each test file uses its part of this.
#![allow(dead_code, missing_docs)]

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::time::{Duration, Instant};

/// Nothing here takes longer unless it hangs.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

pub(crate) struct Server {
    pub(crate) folder: tempfile::TempDir,
    pub(crate) address: SocketAddr,
    pub(crate) child: Child,
    pub(crate) fingerprint: String,
    more: &'static [&'static str],
}

impl Server {
    /// A server that a key `id` of its own can log in to.
    pub(crate) fn start() -> Self {
        Self::start_with(&[])
    }

    /// The same with more options.
    pub(crate) fn start_with(more: &'static [&'static str]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        make_key(&folder.path().join("id"), "ed25519");
        std::fs::copy(folder.path().join("id.pub"), folder.path().join("authorized_keys")).unwrap();
        std::fs::write(folder.path().join("kmsg"), "").unwrap();
        let address = free_address();
        let (child, fingerprint) = serve(folder.path(), address, more);
        Server { folder, address, child, fingerprint, more }
    }

    /// Ends the server, unless it has been killed, and starts it again.
    pub(crate) fn restart(&mut self) {
        if self.child.try_wait().unwrap().is_none() {
            self.terminate();
        }
        (self.child, self.fingerprint) = serve(self.folder.path(), self.address, self.more);
    }

    /// SIGTERM, and how it ended.
    pub(crate) fn terminate(&mut self) -> ExitStatus {
        signal(self.child.id(), "TERM");
        wait(&mut self.child)
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub(crate) fn run(&self, name: &str) -> PathBuf {
        self.path("run").join(name)
    }

    pub(crate) fn log(&self) -> String {
        std::fs::read_to_string(self.path("kmsg")).unwrap()
    }

    /// The options of ssh, scp and sftp: nothing of this machine's or user's, and a host key that must be the server's.
    pub(crate) fn options(&self) -> Vec<String> {
        let key = std::fs::read_to_string(self.run("ssh_host_ed25519_key.pub")).unwrap_or_else(|_| {
            let output = output(Command::new("ssh-keygen").arg("-yf").arg(self.run("ssh_host_ed25519_key")));
            String::from_utf8(output.stdout).unwrap()
        });
        let known = self.path("known_hosts");
        let line = format!("[127.0.0.1]:{} {key}", self.address.port());
        // Clients that are on their way may read it at this moment.
        if std::fs::read_to_string(&known).ok().as_ref() != Some(&line) {
            std::fs::write(&known, line).unwrap();
        }
        let mut options = vec!["-F".into(), "none".into()];
        for option in [
            format!("Port={}", self.address.port()),
            format!("IdentityFile={}", self.path("id").display()),
            format!("UserKnownHostsFile={}", known.display()),
            "GlobalKnownHostsFile=/dev/null".into(),
            "StrictHostKeyChecking=yes".into(),
            "IdentitiesOnly=yes".into(),
            "IdentityAgent=none".into(),
            "BatchMode=yes".into(),
            "LogLevel=ERROR".into(),
            "ConnectTimeout=20".into(),
        ] {
            options.extend(["-o".into(), option]);
        }
        options
    }

    pub(crate) fn ssh(&self) -> Command {
        let mut command = Command::new("ssh");
        command.args(self.options()).arg("root@127.0.0.1");
        command
    }

    /// Runs `line` over ssh.
    pub(crate) fn exec(&self, line: &str) -> Output {
        output(self.ssh().arg(line).stdin(Stdio::null()))
    }

    /// The processes of connections.
    pub(crate) fn sessions(&self) -> Vec<u32> {
        children(self.child.id())
    }

    /// Waits until every connection's process, and every file for one, is gone.
    pub(crate) fn wait_for_no_session(&self) {
        until("a connection's process is still there", || self.sessions().is_empty());
        let left = std::fs::read_dir(self.run("sessions")).map_or(0, Iterator::count);
        assert_eq!(left, 0, "a session's file is left");
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // Sessions outlive their listener, as they should: those of a test that failed are ended here.
        for id in self.sessions() {
            let _ = Command::new("kill").args(["-KILL", &id.to_string()]).status();
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn serve(folder: &Path, address: SocketAddr, more: &[&str]) -> (Child, String) {
    let mut child = Command::new(env!("CARGO_BIN_EXE_rescue"))
        .args(["sshd", "--listen", &address.to_string()])
        .args(["--run-dir".as_ref(), folder.join("run").as_os_str()])
        .args(["--authorized-keys".as_ref(), folder.join("authorized_keys").as_os_str()])
        .args(["--kmsg".as_ref(), folder.join("kmsg").as_os_str()])
        .args(more)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    // The line comes when the server listens.
    let mut line = String::new();
    BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
    assert!(line.starts_with("SHA256:"), "{line:?}");
    (child, line.trim().to_string())
}

pub(crate) fn free_address() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap()
}

pub(crate) fn make_key(path: &Path, kind: &str) {
    let made = output(
        Command::new("ssh-keygen").args(["-q", "-N", "", "-t"]).args(kind.split(' ')).arg("-f").arg(path),
    );
    assert!(made.status.success(), "{}", text(&made.stderr));
}

/// Runs a peer's program; one that is missing, or that hangs, is a failure.
pub(crate) fn output(command: &mut Command) -> Output {
    output_within(command, PATIENCE)
}

/// The same for one that may take so long.
pub(crate) fn output_within(command: &mut Command, patience: Duration) -> Output {
    let program = command.get_program().to_string_lossy().into_owned();
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap_or_else(|error| {
        let package = match program.as_str() {
            "rsync" => "rsync",
            "dbclient" | "dropbearconvert" => "dropbear-bin",
            "plink" | "psftp" | "puttygen" => "putty-tools",
            "ssh-audit" => "ssh-audit",
            "/usr/bin/python3" => "python3-asyncssh",
            _ => "openssh-client",
        };
        panic!("{program}: {error}: install the Debian package {package}")
    });
    let (mut out, mut err) = (child.stdout.take().unwrap(), child.stderr.take().unwrap());
    let errors = std::thread::spawn(move || read_all(&mut err));
    let output = std::thread::spawn(move || read_all(&mut out));
    let status = wait_within(&mut child, patience);
    Output { status, stdout: output.join().unwrap(), stderr: errors.join().unwrap() }
}

pub(crate) fn read_all(from: &mut impl Read) -> Vec<u8> {
    let mut bytes = Vec::new();
    from.read_to_end(&mut bytes).unwrap();
    bytes
}

/// Waits for a program's end.
pub(crate) fn wait(child: &mut Child) -> ExitStatus {
    wait_within(child, PATIENCE)
}

fn wait_within(child: &mut Child, patience: Duration) -> ExitStatus {
    let mut status = None;
    let began = Instant::now();
    while status.is_none() && began.elapsed() < patience {
        status = child.try_wait().unwrap();
        std::thread::sleep(Duration::from_millis(2));
    }
    status.unwrap_or_else(|| {
        let _ = child.kill();
        panic!("a program hangs")
    })
}

/// Waits until `condition` holds.
pub(crate) fn until(failure: &str, mut condition: impl FnMut() -> bool) {
    let began = Instant::now();
    while !condition() {
        assert!(began.elapsed() < PATIENCE, "{failure}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

pub(crate) fn signal(id: u32, name: &str) {
    let sent = Command::new("kill").args([&format!("-{name}"), &id.to_string()]).status().unwrap();
    assert!(sent.success());
}

/// The ids of the processes whose parent is `id`.
pub(crate) fn children(id: u32) -> Vec<u32> {
    let list = std::fs::read_to_string(format!("/proc/{id}/task/{id}/children")).unwrap_or_default();
    list.split_whitespace().map(|id| id.parse().unwrap()).collect()
}

pub(crate) fn is_alive(id: u32) -> bool {
    // A zombie of somebody else's is dead enough.
    std::fs::read_to_string(format!("/proc/{id}/stat")).is_ok_and(|stat| !stat.contains(") Z "))
}

/// A connection that has read the server's banner and says nothing.
pub(crate) fn half_open(address: SocketAddr) -> TcpStream {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    let mut banner = [0; 8];
    stream.read_exact(&mut banner).unwrap();
    assert_eq!(&banner, b"SSH-2.0-");
    stream
}

pub(crate) fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// Types `line` to a program.
pub(crate) fn type_line(child: &mut Child, line: &str) {
    child.stdin.as_mut().unwrap().write_all(line.as_bytes()).unwrap();
}

pub(crate) fn code(output: &Output) -> Option<i32> {
    assert_eq!(output.status.signal(), None, "{}", text(&output.stderr));
    output.status.code()
}
