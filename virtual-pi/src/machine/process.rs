//! The QEMU process: started so that it cannot outlive us, watched by threads until it ends.

use std::ffi::OsString;
use std::io::{BufRead, BufReader, ErrorKind, Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use anyhow::{Context, Result, anyhow};
use init::status::BootStatus;
use rustix::process::{Pid, Signal, WaitId, WaitIdOptions};

use super::qmp::Qmp;
use super::state::{End, Missed, Shared};

/// The longest line on the report port.
const REPORT_LINE_LIMIT: u64 = 64 << 10;
/// How much of what QEMU says on standard error is kept.
const STDERR_LIMIT: usize = 4096;

/// Where copies of what the guest says go.
#[derive(Default)]
pub struct Sinks {
    /// The console, byte for byte.
    pub console: Option<Box<dyn Write + Send>>,
    /// The reports, line by line.
    pub reports: Option<Box<dyn Write + Send>>,
}

impl std::fmt::Debug for Sinks {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Sinks {{ console: {}, reports: {} }}", self.console.is_some(), self.reports.is_some())
    }
}

/// A running process.
#[derive(Debug)]
pub(super) struct Process {
    pub(super) shared: Arc<Shared>,
    pub(super) pid: u32,
    pub(super) stdin: Option<ChildStdin>,
    supervisor: Option<JoinHandle<()>>,
}

/// Ends a process, from whatever thread.
#[derive(Clone, Debug)]
pub struct Killer {
    shared: Arc<Shared>,
    pid: u32,
}

impl Killer {
    /// Kills it, unless it is over already.
    pub fn kill(&self) {
        self.kill_because(End::Killed);
    }

    fn kill_because(&self, why: End) {
        // Under the lock, since the number may be another process's once it has been waited for.
        let mut state = self.shared.lock();
        if state.reaped {
            return;
        }
        state.cause.get_or_insert(why);
        state.usage.update(self.pid);
        if let Some(pid) = i32::try_from(self.pid).ok().and_then(Pid::from_raw) {
            let _gone = rustix::process::kill_process(pid, Signal::KILL);
        }
    }
}

/// What starts a process.
pub(super) struct Start {
    pub(super) qemu: PathBuf,
    pub(super) arguments: Vec<OsString>,
    pub(super) folder: PathBuf,
    pub(super) has_reports: bool,
    pub(super) time_limit: Duration,
    pub(super) sinks: Sinks,
}

impl Process {
    /// Starts QEMU and waits until its monitor answers.
    pub(super) fn start(start: Start) -> Result<(Self, Qmp)> {
        let shared = Arc::new(Shared::default());
        let qmp_socket = start.folder.join("qmp");
        let (connected, connection) = channel();
        let mut threads = Threads { shared: shared.clone(), sockets: Vec::new(), readers: Vec::new() };
        threads.accept(&qmp_socket, move |stream| _ = connected.send(stream))?;
        let Sinks { console, reports } = start.sinks;
        if start.has_reports {
            let state = shared.clone();
            threads
                .accept(&start.folder.join("report"), move |stream| read_reports(stream, &state, reports))?;
        }
        let command = command(&start.qemu, &start.arguments);
        let (spawned, child) = channel();
        let supervisor = thread::spawn(move || supervise(command, threads, console, &spawned));
        let (pid, stdin) = child.recv().context("starting QEMU: its thread is gone")??;
        let process = Self { shared, pid, stdin: Some(stdin), supervisor: Some(supervisor) };
        let qmp = process.connect(&connection)?;
        process.limit(start.time_limit);
        Ok((process, qmp))
    }

    fn connect(&self, connection: &Receiver<UnixStream>) -> Result<Qmp> {
        let gone = || match self.shared.wait(Duration::from_secs(10), |_| None::<()>) {
            Err(Missed::Ended(end)) => anyhow!("{end}"),
            _ => anyhow!("QEMU does not answer on its monitor"),
        };
        let stream = connection.recv_timeout(Duration::from_secs(60)).map_err(|_| gone())?;
        let (qmp, reader) = Qmp::new(stream)?;
        let (shared, pid) = (self.shared.clone(), self.pid);
        thread::spawn(move || {
            reader.run(|end| {
                shared.change(|state| {
                    state.usage.update(pid);
                    state.cause.get_or_insert(end);
                });
            });
        });
        qmp.execute("qmp_capabilities", &serde_json::Value::Null).map_err(|_| gone())?;
        Ok(qmp)
    }

    pub(super) fn killer(&self) -> Killer {
        Killer { shared: self.shared.clone(), pid: self.pid }
    }

    /// Kills it when the time is over. The thread ends with the process.
    fn limit(&self, limit: Duration) {
        let killer = self.killer();
        thread::spawn(move || {
            if killer.shared.wait(limit, |_| None::<()>) == Err(Missed::Timeout) {
                killer.kill_because(End::TimeLimit);
            }
        });
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.killer().kill();
        if let Some(supervisor) = self.supervisor.take() {
            let _panicked = supervisor.join();
        }
    }
}

/// QEMU by way of `setpriv`, which asks the kernel to kill it when the thread that started it is gone: also after a
/// `kill -9` of this process nothing stays behind (`qemu_dies_with_its_parent` in `tests/machine.rs`). In a process group
/// of its own, so that a Ctrl-C comes to us alone.
fn command(qemu: &Path, arguments: &[OsString]) -> Command {
    let mut command = Command::new("setpriv");
    command.args(["--pdeathsig", "KILL", "--"]).arg(qemu).args(arguments);
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).process_group(0);
    command
}

/// The threads that read, and what it takes to end them.
struct Threads {
    shared: Arc<Shared>,
    sockets: Vec<PathBuf>,
    readers: Vec<JoinHandle<()>>,
}

impl Threads {
    /// Listens on a socket for one connection.
    fn accept(&mut self, path: &Path, then: impl FnOnce(UnixStream) + Send + 'static) -> Result<()> {
        let listener =
            UnixListener::bind(path).with_context(|| format!("making the socket {}", path.display()))?;
        self.sockets.push(path.to_owned());
        self.readers.push(thread::spawn(move || {
            if let Ok((stream, _)) = listener.accept() {
                then(stream);
            }
        }));
        Ok(())
    }

    /// Waits until all has been read that was said.
    fn join(self) {
        for socket in &self.sockets {
            // A QEMU that died early has not connected; whoever waits for it gets an end of file instead.
            drop(UnixStream::connect(socket));
        }
        for reader in self.readers {
            let _panicked = reader.join();
        }
    }
}

type Spawned = Result<(u32, ChildStdin)>;

/// Starts the process and stays with it to the end: the kernel kills it when this thread is gone.
fn supervise(
    mut command: Command,
    mut threads: Threads,
    console: Option<Box<dyn Write + Send>>,
    spawned: &Sender<Spawned>,
) {
    let mut child = match command.spawn() {
        Ok(child) => child,
        Err(error) => {
            let error = match error.kind() {
                ErrorKind::NotFound => anyhow!("setpriv is not installed (Debian package: util-linux)"),
                _ => anyhow!(error).context("starting setpriv"),
            };
            threads.join();
            let _nobody_waits = spawned.send(Err(error));
            return;
        }
    };
    let shared = threads.shared.clone();
    let state = shared.clone();
    if let Some(stdout) = child.stdout.take() {
        threads.readers.push(thread::spawn(move || read_console(stdout, &state, console)));
    }
    let stderr = child.stderr.take();
    let said = thread::spawn(move || stderr.map(read_stderr).unwrap_or_default());
    if let Some(stdin) = child.stdin.take() {
        _ = spawned.send(Ok((child.id(), stdin)));
    }
    if let Some(pid) = i32::try_from(child.id()).ok().and_then(Pid::from_raw) {
        // It stays a zombie, so that its number stays its own while the last words are read.
        let _interrupted = rustix::io::retry_on_intr(|| {
            rustix::process::waitid(WaitId::Pid(pid), WaitIdOptions::EXITED | WaitIdOptions::NOWAIT)
        });
    }
    threads.join();
    end(child, &shared, &said.join().unwrap_or_default());
}

fn end(mut child: Child, shared: &Shared, said: &str) {
    shared.change(|state| {
        state.usage.update(child.id());
        let status = child.wait();
        state.reaped = true;
        let by_itself = || match status {
            Ok(status) if said.trim().is_empty() => End::Qemu(status.to_string()),
            Ok(status) => End::Qemu(format!("{} ({status})", said.trim())),
            Err(error) => End::Qemu(format!("waiting for it: {error}")),
        };
        state.end = Some(state.cause.take().unwrap_or_else(by_itself));
    });
}

fn read_console(mut out: impl Read, shared: &Shared, mut sink: Option<Box<dyn Write + Send>>) {
    let mut piece = vec![0; 64 << 10];
    while let Ok(count @ 1..) = out.read(&mut piece) {
        let bytes = piece.get(..count).unwrap_or_default();
        shared.change(|state| state.add_console(bytes));
        if sink.as_mut().is_some_and(|sink| sink.write_all(bytes).and_then(|()| sink.flush()).is_err()) {
            sink = None;
        }
    }
}

fn read_stderr(mut out: impl Read) -> String {
    let mut kept = Vec::new();
    let mut piece = [0; 4096];
    while let Ok(count @ 1..) = out.read(&mut piece) {
        kept.extend_from_slice(piece.get(..count).unwrap_or_default());
        kept.drain(..kept.len().saturating_sub(STDERR_LIMIT));
    }
    String::from_utf8_lossy(&kept).trim().replace('\n', "; ")
}

fn read_reports(stream: UnixStream, shared: &Shared, mut sink: Option<Box<dyn Write + Send>>) {
    let mut lines = BufReader::new(stream);
    loop {
        let mut line = Vec::new();
        match (&mut lines).take(REPORT_LINE_LIMIT).read_until(b'\n', &mut line) {
            Ok(1..) => {}
            _ => return,
        }
        let text = String::from_utf8_lossy(&line);
        if text.trim().is_empty() {
            continue;
        }
        if sink
            .as_mut()
            .is_some_and(|sink| writeln!(sink, "{}", text.trim_end()).and_then(|()| sink.flush()).is_err())
        {
            sink = None;
        }
        shared.change(|state| match serde_json::from_str::<BootStatus>(&text) {
            Ok(report) => state.add_report(report),
            Err(error) => state
                .bad_reports
                .push(format!("{error}: {}", text.trim_end().chars().take(200).collect::<String>())),
        });
    }
}
