//! A shell on a terminal of the console: a login shell as by SSH, and a mark among the sessions while somebody is at it.

use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use rustix::process::Signal;

use super::terminal::Terminal;
use crate::people::CONSOLE_PREFIX;
use crate::replace_file::replace_file;
use crate::run_dir::RunDir;
use crate::session_group::{SessionGroup, WayIn};
use crate::sshd::login;

/// A shell where nothing is typed and nothing written for so long keeps neither hand-over nor reboot timer waiting: a
/// cable may be pulled without a trace, and nothing may wait for ever for who is gone.
const IDLE: Duration = Duration::from_secs(15 * 60);
/// How often that is looked at.
const LOOK: Duration = Duration::from_secs(1);

/// Runs `shell` on the terminal until it ends.
///
/// # Errors
/// When it cannot be started.
pub fn run(shell: &Path, terminal: &Terminal, run: &RunDir) -> Result<()> {
    let name = terminal.path.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let group = SessionGroup::new(&format!("{CONSOLE_PREFIX}{name}"));
    let mut child = start(shell, terminal, SessionGroup::way_in(group.as_ref()))?;
    let mark = run.sessions().join(format!("{CONSOLE_PREFIX}{name}"));
    let text = format!("{}\n", child.id());
    let mut idle = Idle { last: terminal.last_use(), since: Instant::now() };
    loop {
        let marked = mark.exists();
        if idle.is_over(terminal.last_use()) {
            let _ = std::fs::remove_file(&mark);
        } else if !marked {
            let _ = replace_file(&mark, text.as_bytes(), 0o644);
        }
        match child.try_wait() {
            Ok(None) => std::thread::sleep(LOOK),
            _ => break,
        }
    }
    let _ = std::fs::remove_file(&mark);
    Ok(())
}

fn start(shell: &Path, terminal: &Terminal, way_in: WayIn) -> Result<Child> {
    let stream = || terminal.file().try_clone().map(Stdio::from).context("giving a shell its terminal");
    let name = shell.file_name().unwrap_or_default().to_string_lossy();
    let mut command = Command::new(shell);
    command.arg0(format!("-{name}")).env_clear().current_dir(login::home());
    command.envs([
        ("HOME", login::home().as_os_str()),
        ("USER", "root".as_ref()),
        ("LOGNAME", "root".as_ref()),
        ("SHELL", shell.as_os_str()),
        ("PATH", login::PATH.as_ref()),
        ("TERM", terminal.kind().as_ref()),
    ]);
    command.stdin(stream()?).stdout(stream()?).stderr(stream()?);
    let lead = move || {
        way_in.enter();
        rustix::process::setsid()?;
        // Should this service be killed, two would read the terminal: the old shell goes.
        rustix::process::set_parent_process_death_signal(Some(Signal::HUP))?;
        rustix::process::ioctl_tiocsctty(rustix::stdio::stdin())?;
        Ok(())
    };
    // SAFETY: between fork and exec only async-signal-safe functions may be called; these are bare system calls.
    #[allow(unsafe_code)]
    unsafe {
        command.pre_exec(lead)
    };
    command.spawn().with_context(|| format!("starting {}", shell.display()))
}

/// Since when nothing has happened, by a clock that nobody sets.
struct Idle {
    last: Option<(i64, i64)>,
    since: Instant,
}

impl Idle {
    fn is_over(&mut self, last: Option<(i64, i64)>) -> bool {
        if last != self.last {
            (self.last, self.since) = (last, Instant::now());
        }
        self.since.elapsed() > IDLE
    }
}
