//! Pseudo-terminals, one for each session that asks for one.

use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStringExt;
use std::path::PathBuf;
use std::sync::Arc;

use anyhow::{Context, Result};
use russh::Pty;
use rustix::fs::OFlags;
use rustix::io::Errno;
use rustix::pty::{OpenptFlags, ioctl_tiocgptpeer, openpt, ptsname, unlockpt};
use rustix::termios::{OptionalActions, Winsize, tcgetattr, tcsetattr, tcsetwinsize};
use tokio::io::unix::AsyncFd;

use super::modes;

/// The columns and rows of a window, and its size in pixels where the client knows it, as `pty-req` carries them.
#[derive(Clone, Copy, Debug)]
pub struct Window {
    /// Characters in a row.
    pub columns: u32,
    /// Rows.
    pub rows: u32,
    /// Pixels from left to right, or 0.
    pub width: u32,
    /// Pixels from top to bottom, or 0.
    pub height: u32,
}

impl From<Window> for Winsize {
    fn from(window: Window) -> Self {
        let fit = |number: u32| u16::try_from(number).unwrap_or(u16::MAX);
        Winsize {
            ws_col: fit(window.columns),
            ws_row: fit(window.rows),
            ws_xpixel: fit(window.width),
            ws_ypixel: fit(window.height),
        }
    }
}

/// A pseudo-terminal with no program on it yet.
#[derive(Debug)]
pub struct Terminal {
    /// Our end.
    pub master: Arc<AsyncFd<OwnedFd>>,
    /// The program's end, until a program has it.
    pub slave: OwnedFd,
    /// The path of the program's end: `SSH_TTY`.
    pub path: PathBuf,
    /// `TERM`.
    pub term: String,
}

impl Terminal {
    /// Opens a terminal of the size and with the modes that the client asked for.
    pub fn open(term: &str, window: Window, modes: &[(Pty, u32)]) -> Result<Self> {
        let flags = OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC;
        let master = openpt(flags).context("opening /dev/ptmx (is /dev/pts mounted?)")?;
        unlockpt(&master).context("unlocking a pseudo-terminal")?;
        let path = ptsname(&master, Vec::new()).context("naming a pseudo-terminal")?;
        let path = PathBuf::from(std::ffi::OsString::from_vec(path.into_bytes()));
        // The peer comes from the master itself: it is the right one whatever is mounted on /dev/pts.
        let slave = ioctl_tiocgptpeer(&master, flags).context("opening a pseudo-terminal")?;
        // Size and modes are wishes: a terminal without them is better than none.
        if let Ok(mut termios) = tcgetattr(&slave) {
            modes::apply(&mut termios, modes);
            let _ = tcsetattr(&slave, OptionalActions::Now, &termios);
        }
        resize(&master, window);
        rustix::fs::fcntl_setfl(&master, OFlags::RDWR | OFlags::NONBLOCK)
            .context("opening a pseudo-terminal")?;
        // SAFETY: an OwnedFd's descriptor is open and the same until it is dropped, and nothing closes it underneath.
        #[allow(unsafe_code)]
        let master = unsafe { AsyncFd::register(master) };
        let master = Arc::new(master.map_err(std::io::Error::from).context("watching a pseudo-terminal")?);
        Ok(Terminal { master, slave, path, term: term.to_string() })
    }
}

/// Tells the programs on the terminal of its new size; the kernel sends them SIGWINCH.
pub fn resize(master: &impl AsFd, window: Window) {
    let _ = tcsetwinsize(master, window.into());
}

/// Reads what the programs wrote. Empty: no program has the terminal any more.
pub async fn read(master: &AsyncFd<OwnedFd>, limit: usize) -> std::io::Result<Vec<u8>> {
    loop {
        let mut ready = master.readable().await?;
        if let Some(read) = try_read(master, limit)? {
            return Ok(read);
        }
        ready.clear_ready();
    }
}

/// The same without waiting. None: nothing there now.
pub fn try_read(master: &AsyncFd<OwnedFd>, limit: usize) -> std::io::Result<Option<Vec<u8>>> {
    let mut buffer = vec![0; limit];
    match rustix::io::read(master.get_ref(), &mut buffer) {
        Ok(length) => {
            buffer.truncate(length);
            Ok(Some(buffer))
        }
        Err(Errno::AGAIN | Errno::INTR) => Ok(None),
        // What Linux says of a terminal that nobody has open.
        Err(Errno::IO) => Ok(Some(Vec::new())),
        Err(error) => Err(error.into()),
    }
}

/// Types `bytes` on the terminal.
pub async fn write_all(master: &AsyncFd<OwnedFd>, mut bytes: &[u8]) -> std::io::Result<()> {
    while !bytes.is_empty() {
        let mut ready = master.writable().await?;
        match rustix::io::write(master.get_ref(), bytes) {
            Ok(length) => bytes = bytes.get(length..).unwrap_or_default(),
            Err(Errno::AGAIN | Errno::INTR) => ready.clear_ready(),
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}
