//! The programs of one connection: started for a channel, attended until they are over, hung up when their client goes.

use std::collections::HashMap;
use std::os::fd::OwnedFd;
use std::os::unix::process::ExitStatusExt;
use std::process::{ExitStatus, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use anyhow::{Context, Result};
use russh::server::{Handle, Msg};
use russh::{ChannelId, ChannelWriteHalf, Sig};
use rustix::process::{Pid, Signal, kill_process_group};
use tokio::io::unix::AsyncFd;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt};
use tokio::process::{Child, ChildStderr, ChildStdin, ChildStdout, Command};
use tokio::sync::Notify;

use super::intake::Outlet;
use super::login::{self, Task};
use super::settings::Settings;
use super::terminal::{self, Terminal};
use crate::session_group::{SessionGroup, WayIn};

/// How much of a program's output is read, and sent, at once: the largest packet of OpenSSH's client.
const CHUNK: usize = 32 * 1024;
/// The room in the pipes of a program; a pipe's default of 64 KiB costs a switch of programs for every other packet.
const PIPE: usize = 256 * 1024;

/// A program that was started.
#[derive(Debug)]
pub struct Program {
    child: Child,
    ends: Ends,
}

#[derive(Debug)]
enum Ends {
    Terminal(Arc<AsyncFd<OwnedFd>>),
    Pipes(ChildStdin, ChildStdout, ChildStderr),
}

/// Starts `task` on `terminal`, or on pipes. It leads a session and a process group of its own.
pub fn start(
    settings: &Settings,
    task: Task,
    environment: Vec<(std::ffi::OsString, std::ffi::OsString)>,
    terminal: Option<Terminal>,
    way_in: WayIn,
) -> Result<Program> {
    let (path, name, arguments) = login::command_line(settings, task);
    let mut command = Command::new(&path);
    command.arg0(name).args(arguments).env_clear().envs(environment).current_dir(login::home());
    let on_terminal = terminal.is_some();
    match &terminal {
        Some(terminal) => {
            let slave = || terminal.slave.try_clone().map(Stdio::from);
            let context = "giving a program its terminal";
            command
                .stdin(slave().context(context)?)
                .stdout(slave().context(context)?)
                .stderr(slave().context(context)?);
        }
        None => {
            command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        }
    }
    let lead = move || {
        way_in.enter();
        rustix::process::setsid()?;
        // A session that is killed hangs up no one: the kernel does it then.
        rustix::process::set_parent_process_death_signal(Some(Signal::HUP))?;
        if on_terminal {
            rustix::process::ioctl_tiocsctty(rustix::stdio::stdin())?;
        }
        Ok(())
    };
    // SAFETY: between fork and exec only async-signal-safe functions may be called; these are bare system calls.
    #[allow(unsafe_code)]
    unsafe {
        command.pre_exec(lead)
    };
    let mut child = command.spawn().with_context(|| format!("starting {}", path.display()))?;
    let ends = match (terminal, child.stdin.take(), child.stdout.take(), child.stderr.take()) {
        (Some(terminal), ..) => Ends::Terminal(terminal.master),
        (None, Some(stdin), Some(stdout), Some(stderr)) => {
            let _ = rustix::pipe::fcntl_setpipe_size(&stdin, PIPE);
            let _ = rustix::pipe::fcntl_setpipe_size(&stdout, PIPE);
            Ends::Pipes(stdin, stdout, stderr)
        }
        _ => anyhow::bail!("starting {}: it has no pipes", path.display()),
    };
    Ok(Program { child, ends })
}

/// A program that runs.
#[derive(Debug)]
pub struct Running {
    /// Where its output goes.
    pub out: Arc<ChannelWriteHalf<Msg>>,
    /// Its terminal.
    pub master: Option<Arc<AsyncFd<OwnedFd>>>,
    /// Its process group.
    group: Option<Pid>,
    /// Whether the group's leader is still there, so that the number is its own.
    alive: AtomicBool,
    hang_up: Notify,
}

impl Running {
    /// Sends `signal` to the program and those that it started in its process group.
    pub fn signal(&self, signal: Signal) {
        if let (Some(group), true) = (self.group, self.alive.load(Ordering::Acquire)) {
            let _ = kill_process_group(group, signal);
        }
    }

    /// The client has gone: SIGHUP, as from a telephone line.
    pub fn hang_up(&self) {
        self.hang_up.notify_one();
    }
}

/// All programs of a connection.
#[derive(Debug, Default)]
pub struct Programs {
    running: Mutex<HashMap<ChannelId, Arc<Running>>>,
    ended: Notify,
    /// Made with the first of them: whoever has not logged in has none.
    group: OnceLock<Option<SessionGroup>>,
}

impl Programs {
    /// The way into their control group.
    pub fn way_in(&self) -> WayIn {
        SessionGroup::way_in(self.group.get_or_init(|| SessionGroup::new("ssh")).as_ref())
    }

    /// Attends `program` in the background: `greeting` and then its output go to `out`, what comes out of `outlet` to
    /// its input, and its end is told to the client.
    pub fn attend(
        self: &Arc<Self>,
        program: Program,
        out: Arc<ChannelWriteHalf<Msg>>,
        handle: Handle,
        outlet: Outlet,
        greeting: Vec<u8>,
    ) -> Arc<Running> {
        let group = program.child.id().and_then(|id| i32::try_from(id).ok()).and_then(Pid::from_raw);
        let master = match &program.ends {
            Ends::Terminal(master) => Some(master.clone()),
            Ends::Pipes(..) => None,
        };
        let running =
            Arc::new(Running { out, master, group, alive: AtomicBool::new(true), hang_up: Notify::new() });
        let id = running.out.id();
        self.lock().insert(id, running.clone());
        let (programs, attended) = (self.clone(), running.clone());
        tokio::spawn(async move {
            attend(program, &attended, handle, outlet, greeting).await;
            programs.lock().remove(&id);
            programs.ended.notify_waiters();
        });
        running
    }

    /// Hangs up on all of them.
    pub fn hang_up(&self) {
        self.lock().values().for_each(|running| running.hang_up());
    }

    /// Takes leave of those that are on a terminal: `text`, and the end of their channel. A client shows what came
    /// before the end of a channel; before the end of a connection it may not.
    pub async fn take_leave(&self, text: &[u8]) {
        let terminals: Vec<Arc<Running>> =
            self.lock().values().filter(|running| running.master.is_some()).cloned().collect();
        for running in terminals {
            let _ = running.out.data_bytes(text.to_vec()).await;
            let _ = running.out.eof().await;
            let _ = running.out.close().await;
        }
    }

    /// Waits until there are none.
    pub async fn gone(&self) {
        loop {
            let ended = self.ended.notified();
            tokio::pin!(ended);
            // Before the look, so that an end in between is not missed.
            ended.as_mut().enable();
            if self.lock().is_empty() {
                return;
            }
            ended.await;
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<ChannelId, Arc<Running>>> {
        self.running.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

async fn attend(program: Program, running: &Running, handle: Handle, outlet: Outlet, greeting: Vec<u8>) {
    let Program { mut child, ends } = program;
    let converse = async {
        if !greeting.is_empty() {
            let _ = running.out.data_bytes(greeting).await;
        }
        match ends {
            Ends::Terminal(master) => converse_on_terminal(&mut child, running, &master, outlet).await,
            Ends::Pipes(stdin, stdout, stderr) => {
                let feed = tokio::spawn(feed_pipe(stdin, outlet));
                let status = converse_on_pipes(&mut child, running, stdout, stderr).await;
                feed.abort();
                status
            }
        }
    };
    tokio::select! {
        status = converse => {
            let _ = running.out.eof().await;
            tell_end(&handle, running.out.id(), status).await;
            let _ = running.out.close().await;
        }
        () = running.hang_up.notified() => {
            running.signal(Signal::HUP);
            running.signal(Signal::CONT);
            let _ = child.wait().await;
            running.alive.store(false, Ordering::Release);
        }
    }
}

/// Until the program is over and its output, which others may still hold open, has ended.
async fn converse_on_pipes(
    child: &mut Child,
    running: &Running,
    stdout: ChildStdout,
    stderr: ChildStderr,
) -> Option<ExitStatus> {
    let over = async {
        let status = child.wait().await.ok();
        running.alive.store(false, Ordering::Release);
        status
    };
    let ((), (), status) = tokio::join!(copy(stdout, running, None), copy(stderr, running, Some(1)), over);
    status
}

async fn copy(mut from: impl AsyncRead + Unpin, running: &Running, extended: Option<u32>) {
    loop {
        let mut chunk = Vec::with_capacity(CHUNK);
        match from.read_buf(&mut chunk).await {
            Ok(0) | Err(_) => return,
            Ok(_) => {}
        }
        let sent = match extended {
            None => running.out.data_bytes(chunk).await,
            Some(code) => running.out.extended_data_bytes(code, chunk).await,
        };
        // Nobody there: dropping `from` tells the program with SIGPIPE.
        if sent.is_err() {
            return;
        }
    }
}

async fn feed_pipe(mut stdin: ChildStdin, mut outlet: Outlet) {
    while let Some(data) = outlet.next().await {
        if stdin.write_all(&data).await.is_err() {
            return;
        }
        outlet.consumed(data.len());
    }
}

/// Until the program is over and all that it wrote is sent; what others write on its terminal later is not waited for.
async fn converse_on_terminal(
    child: &mut Child,
    running: &Running,
    master: &Arc<AsyncFd<OwnedFd>>,
    mut outlet: Outlet,
) -> Option<ExitStatus> {
    let keyboard = master.clone();
    let typing = tokio::spawn(async move {
        while let Some(data) = outlet.next().await {
            if terminal::write_all(&keyboard, &data).await.is_err() {
                return;
            }
            outlet.consumed(data.len());
        }
    });
    let showing = async {
        while let Ok(chunk) = terminal::read(master, CHUNK).await {
            if chunk.is_empty() || running.out.data_bytes(chunk).await.is_err() {
                return;
            }
        }
    };
    tokio::pin!(showing);
    let status = tokio::select! {
        status = child.wait() => status.ok(),
        () = &mut showing => child.wait().await.ok(),
    };
    running.alive.store(false, Ordering::Release);
    typing.abort();
    while let Ok(Some(chunk)) = terminal::try_read(master, CHUNK) {
        if chunk.is_empty() || running.out.data_bytes(chunk).await.is_err() {
            break;
        }
    }
    status
}

async fn tell_end(handle: &Handle, id: ChannelId, status: Option<ExitStatus>) {
    let Some(status) = status else { return };
    let _ = match (status.code(), status.signal()) {
        (Some(code), _) => handle.exit_status_request(id, u32::try_from(code).unwrap_or(255)).await,
        (None, signal) => {
            let name = signal_name(signal.unwrap_or_default());
            handle.exit_signal_request(id, name, status.core_dumped(), String::new(), String::new()).await
        }
    };
}

/// The name of RFC 4254, section 6.10; signals that it has no name for get one with a domain, as it asks.
fn signal_name(signal: i32) -> Sig {
    match Signal::from_named_raw(signal) {
        Some(Signal::ABORT) => Sig::ABRT,
        Some(Signal::ALARM) => Sig::ALRM,
        Some(Signal::FPE) => Sig::FPE,
        Some(Signal::HUP) => Sig::HUP,
        Some(Signal::ILL) => Sig::ILL,
        Some(Signal::INT) => Sig::INT,
        Some(Signal::KILL) => Sig::KILL,
        Some(Signal::PIPE) => Sig::PIPE,
        Some(Signal::QUIT) => Sig::QUIT,
        Some(Signal::SEGV) => Sig::SEGV,
        Some(Signal::TERM) => Sig::TERM,
        Some(Signal::USR1) => Sig::USR1,
        Some(Signal::USR2) => Sig::Custom("USR2".into()),
        _ => Sig::Custom(format!("SIG{signal}@lifeboat")),
    }
}

/// The signal that a client asks for. None: not one of RFC 4254.
pub fn signal_of(name: &Sig) -> Option<Signal> {
    Some(match name {
        Sig::ABRT => Signal::ABORT,
        Sig::ALRM => Signal::ALARM,
        Sig::FPE => Signal::FPE,
        Sig::HUP => Signal::HUP,
        Sig::ILL => Signal::ILL,
        Sig::INT => Signal::INT,
        Sig::KILL => Signal::KILL,
        Sig::PIPE => Signal::PIPE,
        Sig::QUIT => Signal::QUIT,
        Sig::SEGV => Signal::SEGV,
        Sig::TERM => Signal::TERM,
        Sig::USR1 => Signal::USR1,
        Sig::Custom(name) if name == "USR2" => Signal::USR2,
        Sig::Custom(_) => return None,
    })
}
