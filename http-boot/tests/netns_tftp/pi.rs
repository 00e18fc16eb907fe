//! A bootloader's TFTP client, after what is known of it: `octet`, `tsize 0`, `blksize`, the question again every 2 s from the
//! same port, a new port for each file, ERROR 0 when it only wanted to know. Made of bytes, not of the server's codec.

use std::net::{SocketAddr, UdpSocket};
use std::time::{Duration, Instant};

/// How long a file may take in all.
const FILE_TIMEOUT: Duration = Duration::from_secs(120);
const AGAIN: Duration = Duration::from_secs(2);

#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Got {
    File(Vec<u8>),
    /// It is there, and has so many bytes.
    There(usize),
    Error(u16, String),
}

pub(crate) struct Pi {
    pub(crate) server: SocketAddr,
    pub(crate) block: usize,
}

pub(crate) fn request(kind: u8, name: &[u8], options: &[(&str, &str)]) -> Vec<u8> {
    let mut bytes = vec![0, kind];
    bytes.extend(name);
    bytes.extend(b"\0octet\0");
    for (option, value) in options {
        bytes.extend(option.bytes().chain([0]).chain(value.bytes()).chain([0]));
    }
    bytes
}

impl Pi {
    pub(crate) fn probe(&self, name: &str) -> Got {
        self.ask(name, true)
    }

    pub(crate) fn get(&self, name: &str) -> Got {
        self.ask(name, false)
    }

    fn ask(&self, name: &str, probe: bool) -> Got {
        let any = if self.server.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" };
        let socket = UdpSocket::bind(any).unwrap();
        socket.set_read_timeout(Some(AGAIN)).unwrap();
        let question = request(1, name.as_bytes(), &[("tsize", "0"), ("blksize", &self.block.to_string())]);
        let mut say = (question, self.server);
        let mut peer = None;
        let (mut size, mut file, mut expected) = (None, Vec::new(), 1u16);
        let end = Instant::now() + FILE_TIMEOUT;
        loop {
            socket.send_to(&say.0, say.1).unwrap();
            let mut buffer = [0; 4096];
            let (length, from) = match socket.recv_from(&mut buffer) {
                Ok(received) => received,
                Err(_) => {
                    assert!(
                        Instant::now() < end,
                        "{name}: {} bytes of {size:?} after {FILE_TIMEOUT:?}",
                        file.len()
                    );
                    continue;
                }
            };
            assert_eq!(from.ip(), self.server.ip(), "another address answers than the one that was asked");
            if *peer.get_or_insert(from) != from {
                // The answer to a question that came twice.
                continue;
            }
            say.1 = from;
            match &buffer[..length] {
                [0, 6, options @ ..] => {
                    size = Some(self.check(options));
                    if probe {
                        socket.send_to(b"\0\x05\0\0Early terminate\0", from).unwrap();
                        return Got::There(size.unwrap());
                    }
                    if file.is_empty() {
                        say.0 = vec![0, 4, 0, 0];
                    }
                }
                [0, 3, high, low, bytes @ ..] => {
                    assert!(size.is_some(), "{name}: data without an OACK");
                    if u16::from_be_bytes([*high, *low]) == expected {
                        file.extend(bytes);
                        say.0 = vec![0, 4, *high, *low];
                        expected = expected.wrapping_add(1);
                        if bytes.len() < self.block {
                            socket.send_to(&say.0, say.1).unwrap();
                            assert_eq!(Some(file.len()), size, "{name}");
                            return Got::File(file);
                        }
                    }
                }
                [0, 5, high, low, text @ ..] => {
                    let text = String::from_utf8_lossy(text).trim_end_matches('\0').to_owned();
                    return Got::Error(u16::from_be_bytes([*high, *low]), text);
                }
                other => panic!("{name}: {other:?}"),
            }
        }
    }

    /// Both options have to be in the OACK; gives the size.
    fn check(&self, options: &[u8]) -> usize {
        let words: Vec<_> =
            options.split(|b| *b == 0).map(|word| std::str::from_utf8(word).unwrap()).collect();
        let value = |name: &str| words.iter().position(|word| *word == name).map(|at| words[at + 1]);
        assert_eq!(value("blksize"), Some(self.block.to_string().as_str()), "{words:?}");
        value("tsize").unwrap().parse().unwrap()
    }
}
