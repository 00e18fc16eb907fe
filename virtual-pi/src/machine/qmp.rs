//! QEMU's monitor protocol: commands with answers, and events in between.

use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context, Result, anyhow, bail};
use serde_json::{Value, json};

use super::state::End;

/// How long an answer may take.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(60);

/// The side that asks.
#[derive(Debug)]
pub(super) struct Qmp {
    link: Mutex<Link>,
}

#[derive(Debug)]
struct Link {
    stream: UnixStream,
    answers: Receiver<Value>,
    number: u64,
}

impl Qmp {
    /// Takes a new connection over. Gives also the side that reads, for a thread of its own.
    pub(super) fn new(stream: UnixStream) -> Result<(Self, Reader)> {
        let (sender, answers) = channel();
        let reader = Reader {
            lines: BufReader::new(stream.try_clone().context("duplicating the QMP socket")?),
            sender,
        };
        Ok((Self { link: Mutex::new(Link { stream, answers, number: 0 }) }, reader))
    }

    /// Runs a command and gives what it returns.
    pub(super) fn execute(&self, command: &str, arguments: &Value) -> Result<Value> {
        let mut link = self.link.lock().unwrap_or_else(PoisonError::into_inner);
        link.number += 1;
        let id = link.number;
        let mut request = json!({"execute": command, "id": id});
        if let (false, Some(request)) = (arguments.is_null(), request.as_object_mut()) {
            request.insert("arguments".into(), arguments.clone());
        }
        // In one piece, since the reader may say its `quit` meanwhile.
        link.stream
            .write_all(format!("{request}\n").as_bytes())
            .with_context(|| format!("sending {command} to QEMU"))?;
        loop {
            let answer = link.answers.recv_timeout(ANSWER_TIMEOUT);
            let answer = answer.map_err(|_| anyhow!("QEMU did not answer {command}: it is gone or stuck"))?;
            // One that came after its time is not ours.
            if answer.get("id").and_then(Value::as_u64) == Some(id) {
                return result(command, answer);
            }
        }
    }
}

fn result(command: &str, mut answer: Value) -> Result<Value> {
    if let Some(error) = answer.get("error") {
        bail!(
            "QEMU refuses {command}: {}",
            error.get("desc").and_then(Value::as_str).unwrap_or("no reason given")
        );
    }
    Ok(answer.get_mut("return").map(Value::take).unwrap_or_default())
}

/// The side that listens.
#[derive(Debug)]
pub(super) struct Reader {
    lines: BufReader<UnixStream>,
    sender: Sender<Value>,
}

impl Reader {
    /// Reads until QEMU is gone; calls `ending` when the guest has ended, while QEMU waits to be told to go.
    pub(super) fn run(mut self, mut ending: impl FnMut(End)) {
        let mut line = String::new();
        while let Ok(1..) = self.lines.read_line(&mut line) {
            if let Ok(message) = serde_json::from_str::<Value>(&line) {
                self.take(message, &mut ending);
            }
            line.clear();
        }
    }

    fn take(&mut self, message: Value, ending: &mut impl FnMut(End)) {
        match message.get("event").and_then(Value::as_str) {
            Some("SHUTDOWN") => {
                let reason = message.pointer("/data/reason").and_then(Value::as_str).unwrap_or_default();
                match reason {
                    "guest-shutdown" => ending(End::PowerOff),
                    "guest-reset" | "host-qmp-system-reset" | "subsystem-reset" => ending(End::Reset),
                    _ => return,
                }
                // `-no-shutdown` keeps it until here, so that what it used can still be read.
                let _gone = self.lines.get_mut().write_all(b"{\"execute\": \"quit\"}\n");
            }
            Some("WATCHDOG") => ending(End::Watchdog),
            Some(_) => {}
            // The greeting has no id, and nobody waits for it.
            None => _ = self.sender.send(message),
        }
    }
}
