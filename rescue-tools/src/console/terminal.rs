//! A terminal of the console: opened without becoming ours, in a state that a person can type in, read by lines.

use std::fs::{File, OpenOptions};
use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use rustix::fs::OFlags;
use rustix::termios::{
    ControlModes, InputModes, LocalModes, OptionalActions, OutputModes, SpecialCodeIndex, Winsize, tcgetattr,
    tcgetwinsize, tcsetattr, tcsetwinsize,
};

/// The kernel gives no longer line (`N_TTY_BUF_SIZE`).
const LINE_LIMIT: u64 = 4096;
/// Where the kernel lists its consoles.
const ACTIVE: &str = "/sys/class/tty/console/active";

/// The keys of a terminal as the kernel begins with (`INIT_C_CC`): Ctrl-C, Ctrl-\, Backspace, Ctrl-U, Ctrl-D, Ctrl-Q,
/// Ctrl-S, Ctrl-Z.
const KEYS: [(SpecialCodeIndex, u8); 8] = [
    (SpecialCodeIndex::VINTR, 3),
    (SpecialCodeIndex::VQUIT, 28),
    (SpecialCodeIndex::VERASE, 127),
    (SpecialCodeIndex::VKILL, 21),
    (SpecialCodeIndex::VEOF, 4),
    (SpecialCodeIndex::VSTART, 17),
    (SpecialCodeIndex::VSTOP, 19),
    (SpecialCodeIndex::VSUSP, 26),
];

/// The names below `/dev` of the kernel's consoles. `tty0` is whichever screen is in front; the first one is taken.
pub fn consoles() -> Vec<String> {
    let active = std::fs::read_to_string(ACTIVE).unwrap_or_default();
    active.split_whitespace().map(|name| if name == "tty0" { "tty1" } else { name }.to_string()).collect()
}

/// An open terminal.
#[derive(Debug)]
pub struct Terminal {
    /// Its path.
    pub path: PathBuf,
    lines: BufReader<File>,
}

impl Terminal {
    /// Opens it, and makes it sane: a program that died may have left it in any state.
    ///
    /// # Errors
    /// When there is no such terminal.
    pub fn open(path: &Path) -> Result<Self> {
        // Without NONBLOCK the kernel might wait for a carrier.
        let flags = OFlags::NOCTTY | OFlags::NONBLOCK;
        let file = OpenOptions::new().read(true).write(true).custom_flags(flags.bits() as i32).open(path);
        let file = file.with_context(|| format!("opening {}", path.display()))?;
        rustix::fs::fcntl_setfl(&file, OFlags::RDWR).context("making a terminal wait")?;
        let terminal = Terminal { path: path.to_owned(), lines: BufReader::new(file) };
        terminal.make_sane()?;
        Ok(terminal)
    }

    fn make_sane(&self) -> Result<()> {
        let mut modes = tcgetattr(self.file()).context("reading a terminal's modes")?;
        modes.input_modes = InputModes::ICRNL | InputModes::IXON;
        modes.output_modes = OutputModes::OPOST | OutputModes::ONLCR;
        modes.local_modes = LocalModes::ICANON
            | LocalModes::ISIG
            | LocalModes::IEXTEN
            | LocalModes::ECHO
            | LocalModes::ECHOE
            | LocalModes::ECHOK
            | LocalModes::ECHOCTL
            | LocalModes::ECHOKE;
        for (code, key) in KEYS {
            modes.special_codes[code] = key;
        }
        // The speed is the kernel's; no carrier is waited for.
        modes.control_modes |= ControlModes::CLOCAL | ControlModes::CREAD;
        tcsetattr(self.file(), OptionalActions::Now, &modes).context("setting a terminal's modes")?;
        // A serial line knows no size; programs take none for a window of no rows.
        if tcgetwinsize(self.file()).is_ok_and(|size| size.ws_row == 0) {
            let size = Winsize { ws_row: 24, ws_col: 80, ws_xpixel: 0, ws_ypixel: 0 };
            let _ = tcsetwinsize(self.file(), size);
        }
        Ok(())
    }

    /// The terminal as a file, for a program that is to have it.
    pub fn file(&self) -> &File {
        self.lines.get_ref()
    }

    /// Waits for a line. None: it was hung up.
    pub fn line(&mut self) -> Option<String> {
        let mut line = Vec::new();
        let read = self.lines.by_ref().take(LINE_LIMIT).read_until(b'\n', &mut line);
        matches!(read, Ok(1..)).then(|| String::from_utf8_lossy(&line).trim().to_string())
    }

    /// Shows text. What cannot be shown is lost: there is nobody to tell.
    pub fn say(&self, text: &str) {
        let _ = self.file().write_all(text.as_bytes());
    }

    /// Changes whenever somebody types or a program writes (the kernel notes it every 8 seconds).
    pub fn last_use(&self) -> Option<(i64, i64)> {
        let file = std::fs::metadata(&self.path).ok()?;
        Some((file.atime(), file.mtime()))
    }

    /// What goes into `TERM`: as agetty(8) has it.
    pub fn kind(&self) -> &'static str {
        let name = self.path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        let is_screen =
            name.strip_prefix("tty").is_some_and(|rest| rest.starts_with(|c: char| c.is_ascii_digit()));
        if is_screen { "linux" } else { "vt220" }
    }
}

#[cfg(test)]
mod tests {
    use rustix::pty::{OpenptFlags, openpt, ptsname, unlockpt};

    use super::*;

    #[test]
    fn a_terminal_in_any_state_becomes_one_to_type_in() {
        let master = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).unwrap();
        unlockpt(&master).unwrap();
        let path = PathBuf::from(ptsname(&master, Vec::new()).unwrap().into_string().unwrap());
        let mut modes = tcgetattr(&master).unwrap();
        modes.make_raw();
        tcsetattr(&master, OptionalActions::Now, &modes).unwrap();
        let mut terminal = Terminal::open(&path).unwrap();
        rustix::io::write(&master, b"resX\x7fcue\r").unwrap();
        assert_eq!(terminal.line().as_deref(), Some("rescue"));
        assert_eq!(tcgetwinsize(&master).unwrap().ws_row, 24);
        assert_eq!(terminal.kind(), "vt220");
        drop(master);
        assert_eq!(terminal.line(), None);
    }
}
