//! The terminal while a screen is on it: keys come at once and unseen, and it is as before when this is dropped. Neither
//! an alternate screen nor a hidden cursor: should the line drop, the client's terminal has nothing to be mended, and the
//! last picture stays on it.

use std::io::{Read, Write};

use anyhow::{Context, Result};
use rustix::termios::{
    LocalModes, OptionalActions, SpecialCodeIndex, Termios, tcgetattr, tcgetwinsize, tcsetattr,
};
use tokio::sync::mpsc::{Receiver, channel};

use super::screen::Size;

/// What a terminal without a size is taken for: a serial console.
const USUAL: Size = Size { columns: 80, rows: 24 };

/// Linux' `_POSIX_VDISABLE`: no key has this function.
const NO_KEY: u8 = 0;

/// Standard input as a terminal, and standard output as its screen.
#[derive(Debug)]
pub struct Terminal {
    before: Termios,
    keys: Receiver<u8>,
    drawn: Option<Size>,
}

impl Terminal {
    /// Takes the terminal over.
    ///
    /// # Errors
    /// When standard input is none.
    pub fn open() -> Result<Self> {
        let stdin = std::io::stdin();
        let before = tcgetattr(&stdin).context("reading the terminal's modes")?;
        let mut modes = before.clone();
        modes.local_modes.remove(LocalModes::ICANON | LocalModes::ECHO);
        // A stopped program would leave the terminal like this to the shell.
        modes.special_codes[SpecialCodeIndex::VSUSP] = NO_KEY;
        tcsetattr(&stdin, OptionalActions::Now, &modes).context("setting the terminal's modes")?;
        let (sender, keys) = channel(1);
        // A thread, since a read of standard input cannot be made not to wait without doing so to the shell's as well. It
        // ends with the process.
        let read = move || {
            for key in std::io::stdin().lock().bytes().map_while(Result::ok) {
                if sender.blocking_send(key).is_err() {
                    return;
                }
            }
        };
        std::thread::Builder::new().name("keys".into()).spawn(read).context("waiting for keys")?;
        Ok(Terminal { before, keys, drawn: None })
    }

    /// The window's size now.
    pub fn size(&self) -> Size {
        match tcgetwinsize(std::io::stdout()) {
            Ok(size) if size.ws_col > 0 && size.ws_row > 0 => {
                Size { columns: size.ws_col.into(), rows: size.ws_row.into() }
            }
            _ => USUAL,
        }
    }

    /// Puts the rows on the screen, over the ones before.
    ///
    /// # Errors
    /// When the terminal is gone.
    pub fn draw(&mut self, rows: &[String], size: Size) -> std::io::Result<()> {
        let mut text = String::from(if self.drawn == Some(size) { "\x1b[H" } else { "\x1b[H\x1b[2J" });
        self.drawn = Some(size);
        text.push_str(&rows.join("\x1b[K\n"));
        text.push_str("\x1b[K");
        let mut stdout = std::io::stdout().lock();
        stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush())
    }

    /// The next key. None: the terminal is gone.
    pub async fn key(&mut self) -> Option<u8> {
        self.keys.recv().await
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        if self.drawn.is_some() {
            let _ = std::io::stdout().write_all(b"\n");
        }
        let _ = tcsetattr(std::io::stdin(), OptionalActions::Now, &self.before);
    }
}
