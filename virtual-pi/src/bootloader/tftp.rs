//! The bootloader's TFTP client (facts, section 3; RFC 1350, 2347 to 2349): one file at a time, each from a port of its own.

use std::fmt;
use std::net::{Ipv4Addr, SocketAddrV4};
use std::time::{Duration, Instant};

use super::IMAGE_LIMIT;
use super::boot_files::BootFiles;
use super::eeprom::Eeprom;
use super::log::Log;
use super::refusal::{Kind, Refusal};
use crate::wire::Stack;
use crate::wire::stack::Udp;

/// What it asks for since 2022-10-03, in bytes.
const BLOCK: usize = 1468;
/// RFC 1350's own size.
const DEFAULT_BLOCK: usize = 512;
/// A question or an acknowledgement without an answer is sent again after this.
const AGAIN_AFTER: Duration = Duration::from_secs(2);
/// How many bytes of a config.txt over the network count.
const CONFIG_LIMIT: usize = 4096;

/// A TFTP server's files, with a prefix before each name.
pub struct TftpFolder<'a> {
    stack: &'a mut Stack,
    server: Ipv4Addr,
    prefix: String,
    timeout: Duration,
}

impl fmt::Debug for TftpFolder<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TftpFolder").field("server", &self.server).field("prefix", &self.prefix).finish()
    }
}

/// How a question ended.
enum Answer {
    File(Vec<u8>),
    /// The server has no such file.
    None,
    /// It is there; nobody asked for more.
    There,
}

impl<'a> TftpFolder<'a> {
    /// The files of a server, by way of `stack`, which has an address.
    pub fn new(stack: &'a mut Stack, server: Ipv4Addr, eeprom: &Eeprom, prefix: String) -> Self {
        Self { stack, server, prefix, timeout: eeprom.tftp_file_timeout }
    }

    /// Leaves the prefix out from now on.
    pub fn drop_prefix(&mut self) {
        self.prefix.clear();
    }

    fn ask(&mut self, name: &str, probe: bool, log: &mut Log) -> Result<Answer, Refusal> {
        let name = format!("{}{name}", self.prefix);
        log.line(format_args!("TFTP_GET: {} {} {name}", self.stack.mac(), self.server));
        let socket = self.stack.udp().map_err(|error| failed(&name, &error))?;
        let end = Instant::now() + self.timeout;
        let mut transfer = Transfer {
            socket,
            server: SocketAddrV4::new(self.server, 69),
            name: &name,
            end,
            last: question(&name),
            content: Vec::new(),
            blocks: 0,
            block: BLOCK,
            has_options: false,
        };
        let answer = transfer.run(probe, log);
        let has_options = transfer.has_options;
        match answer {
            // Without an OACK a Pi 4 has been seen to ignore config.txt, and to say nothing.
            Ok(Answer::File(_)) if name.ends_with("config.txt") && !has_options => {
                log.note(format_args!("{name}: the server sent no OACK; a Pi 4 ignores config.txt then"));
                Ok(Answer::None)
            }
            answer => answer,
        }
    }
}

impl BootFiles for TftpFolder<'_> {
    fn read(&mut self, name: &str, log: &mut Log) -> Result<Option<Vec<u8>>, Refusal> {
        let Answer::File(mut content) = self.ask(name, false, log)? else { return Ok(None) };
        if name.ends_with("config.txt") && content.len() > CONFIG_LIMIT {
            log.note(format_args!(
                "{name} has {} bytes; over the network a Pi reads the first {CONFIG_LIMIT}",
                content.len()
            ));
            content.truncate(CONFIG_LIMIT);
        }
        Ok(Some(content))
    }

    fn has(&mut self, name: &str, log: &mut Log) -> Result<bool, Refusal> {
        Ok(!matches!(self.ask(name, true, log)?, Answer::None))
    }

    fn place(&self) -> &'static str {
        "on the TFTP server"
    }
}

fn question(name: &str) -> Vec<u8> {
    let block = BLOCK.to_string();
    let mut packet = vec![0, 1];
    for word in [name, "octet", "tsize", "0", "blksize", &block] {
        packet.extend_from_slice(word.as_bytes());
        packet.push(0);
    }
    packet
}

fn failed(name: &str, why: &dyn fmt::Display) -> Refusal {
    Refusal::new(Kind::Download, format!("fetching {name} by TFTP: {why}"))
}

struct Transfer<'a, 'b> {
    socket: Udp<'a>,
    server: SocketAddrV4,
    name: &'b str,
    end: Instant,
    /// What was said last, and is said again when nothing comes.
    last: Vec<u8>,
    content: Vec<u8>,
    blocks: u64,
    block: usize,
    has_options: bool,
}

impl Transfer<'_, '_> {
    fn run(&mut self, probe: bool, log: &mut Log) -> Result<Answer, Refusal> {
        self.say()?;
        loop {
            let Some(packet) = self.next()? else { continue };
            let (kind, rest) = match packet.as_slice() {
                [0, kind, rest @ ..] => (*kind, rest),
                _ => continue,
            };
            match (kind, rest) {
                (5, [code_high, code_low, text @ ..]) => {
                    let text = String::from_utf8_lossy(text);
                    let code = u16::from_be_bytes([*code_high, *code_low]);
                    log.line(format_args!("TFTP {code}: {}", text.trim_end_matches('\0')));
                    // The bootloader goes on without a file, whatever kept it from getting one.
                    return Ok(Answer::None);
                }
                (6 | 3, _) if probe => {
                    self.last = [&[0, 5, 0, 0][..], b"Early terminate\0"].concat();
                    self.say()?;
                    return Ok(Answer::There);
                }
                (6, options) if self.blocks == 0 => self.agree(options)?,
                (3, [high, low, data @ ..]) if self.take(u16::from_be_bytes([*high, *low]), data)? => {
                    return Ok(Answer::File(std::mem::take(&mut self.content)));
                }
                _ => {}
            }
        }
    }

    /// The next packet of this transfer; nothing when what was said last went out again.
    fn next(&mut self) -> Result<Option<Vec<u8>>, Refusal> {
        let until = (Instant::now() + AGAIN_AFTER).min(self.end);
        let came = self.socket.receive(until).map_err(|error| failed(self.name, &error))?;
        let Some((from, packet)) = came else {
            if Instant::now() >= self.end {
                let why = format!("no end within TFTP_FILE_TIMEOUT ({} bytes came)", self.content.len());
                return Err(failed(self.name, &why));
            }
            self.say()?;
            return Ok(None);
        };
        if from.ip() != self.server.ip() {
            return Ok(None);
        }
        // The server answers from a port of its own, which holds from then on (RFC 1350 section 4).
        if self.server.port() == 69 && self.blocks == 0 && !self.has_options {
            self.server = from;
        }
        Ok((from == self.server).then_some(packet))
    }

    /// Takes an OACK.
    fn agree(&mut self, options: &[u8]) -> Result<(), Refusal> {
        self.has_options = true;
        // What the server does not say does not hold (RFC 2347).
        self.block = DEFAULT_BLOCK;
        let words: Vec<_> = options.split(|byte| *byte == 0).map(String::from_utf8_lossy).collect();
        for pair in words.chunks_exact(2) {
            let [name, value] = pair else { continue };
            let number: u64 =
                value.parse().map_err(|_| failed(self.name, &format!("{name}={value} in the OACK")))?;
            match name.to_ascii_lowercase().as_str() {
                "tsize" if number > IMAGE_LIMIT => {
                    let why = format!("it has {number} bytes; {IMAGE_LIMIT} are the most");
                    return Err(Refusal::new(Kind::TooLarge, format!("{}: {why}", self.name)));
                }
                "blksize" if (8..=BLOCK as u64).contains(&number) => {
                    self.block = usize::try_from(number).unwrap_or(BLOCK);
                }
                "blksize" => return Err(failed(self.name, &format!("the OACK's blksize is {number}"))),
                _ => {}
            }
        }
        self.acknowledge(0)
    }

    /// Takes a block of data; whether it was the last one.
    fn take(&mut self, number: u16, data: &[u8]) -> Result<bool, Refusal> {
        if !self.has_options && self.blocks == 0 {
            // No OACK came.
            self.block = DEFAULT_BLOCK;
        }
        // Numbers go on at 0 after 65535.
        if u64::from(number) == (self.blocks + 1) & 0xffff {
            self.blocks += 1;
            self.content.extend_from_slice(data);
            self.acknowledge(number)?;
            if self.content.len() as u64 > IMAGE_LIMIT {
                let why = format!("it has more than {IMAGE_LIMIT} bytes");
                return Err(Refusal::new(Kind::TooLarge, format!("{}: {why}", self.name)));
            }
            return Ok(data.len() < self.block);
        }
        // One that came before: the server may not have heard.
        if u64::from(number) == self.blocks & 0xffff {
            self.say()?;
        }
        Ok(false)
    }

    fn acknowledge(&mut self, number: u16) -> Result<(), Refusal> {
        let [high, low] = number.to_be_bytes();
        self.last = vec![0, 4, high, low];
        self.say()
    }

    fn say(&mut self) -> Result<(), Refusal> {
        self.socket.send(self.server, &self.last).map_err(|error| failed(self.name, &error))
    }
}
