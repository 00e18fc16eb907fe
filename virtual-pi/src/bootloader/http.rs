//! The bootloader's HTTP client: HTTP/1.1 with one request per connection, and neither redirects nor encodings.

use std::fmt;
use std::io::{self, ErrorKind, Read};
use std::net::SocketAddrV4;
use std::time::Instant;

use super::log::Log;
use super::refusal::{Kind, Refusal};
use super::tls::Authority;
use super::transport::{Stream, Transport};
use super::version;
use crate::board::Pi;

/// The longest head of an answer.
const HEAD_LIMIT: usize = 16 * 1024;

/// The EEPROM's `HTTP_HOST`, `HTTP_PORT` and `HTTP_PATH`.
#[derive(Clone, Debug)]
pub struct Source {
    host: String,
    port: u16,
    path: String,
    /// `cacert.der`, with which the server is asked over HTTPS.
    authority: Option<Authority>,
    /// How often each file is tried. The real number is not documented.
    pub tries: u32,
}

impl Source {
    /// Checks the three as the EEPROM's documentation describes them.
    ///
    /// # Errors
    /// One line that names the wrong one.
    pub fn new(host: &str, port: u16, path: &str) -> Result<Self, String> {
        let known = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-' || b == b'.';
        if host.is_empty() || !host.bytes().all(known) {
            return Err(format!(
                "HTTP_HOST {host:?}: lower-case letters, digits, - and . only; no scheme, no slash, no port"
            ));
        }
        if !path.bytes().all(|b| b.is_ascii_graphic() && b != b'#' && b != b'?') {
            return Err(format!("HTTP_PATH {path:?}: visible ASCII characters other than # and ? only"));
        }
        Ok(Self { host: host.into(), port, path: path.into(), authority: None, tries: 3 })
    }

    /// The same over HTTPS, as `HTTP_CACERT_HASH` makes it.
    pub fn over_tls(self, authority: Authority) -> Self {
        Self { authority: Some(authority), ..self }
    }

    /// The path of a file in a request. Slashes at `HTTP_PATH`'s ends are doubled, for all that is known.
    fn path_of(&self, file: &str) -> String {
        if self.path.is_empty() { format!("/{file}") } else { format!("/{}/{file}", self.path) }
    }

    /// A file's URL.
    pub fn url(&self, file: &str) -> String {
        let scheme = if self.authority.is_some() { "https" } else { "http" };
        format!("{scheme}://{}:{}{}", self.host, self.port, self.path_of(file))
    }

    /// The port that a URL of this kind need not name.
    fn default_port(&self) -> u16 {
        if self.authority.is_some() { 443 } else { 80 }
    }
}

/// Why one try failed.
enum Failure {
    /// Another try may do better.
    Try(String),
    /// No other try will.
    Refused(Refusal),
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            ErrorKind::WouldBlock | ErrorKind::TimedOut => Self::Try("the server is silent".into()),
            _ => Self::Try(error.to_string()),
        }
    }
}

/// Fetches `file`, of at most `limit` bytes. What a broken connection left is kept, and asked for no more.
///
/// # Errors
/// With [`Kind::NotFound`] on a 404, [`Kind::TooLarge`], or else [`Kind::Download`].
pub fn fetch(
    pi: &Pi,
    source: &Source,
    network: &mut dyn Transport,
    (file, limit): (&str, u64),
    log: &mut Log,
) -> Result<Vec<u8>, Refusal> {
    let mut transfer = Transfer { pi, source, file, limit, have: Vec::new(), shown: 0 };
    let mut reason = String::new();
    for _ in 0..source.tries.max(1) {
        match transfer.attempt(network, log) {
            Ok(()) => {
                log.read(file, transfer.have.len());
                return Ok(transfer.have);
            }
            Err(Failure::Refused(refusal)) => return Err(refusal),
            Err(Failure::Try(why)) => {
                log.line("HTTP: web client failed");
                log.note(format_args!("{}: {why} (have {} bytes)", source.url(file), transfer.have.len()));
                reason = why;
            }
        }
    }
    Err(Refusal::new(
        Kind::Download,
        format!("fetching {}: {reason}; given up after {} tries", source.url(file), source.tries.max(1)),
    ))
}

struct Transfer<'a> {
    pi: &'a Pi,
    source: &'a Source,
    file: &'a str,
    limit: u64,
    have: Vec<u8>,
    shown: u64,
}

impl Transfer<'_> {
    fn attempt(&mut self, network: &mut dyn Transport, log: &mut Log) -> Result<(), Failure> {
        let source = self.source;
        log.line(format_args!("HTTP: GET request for {}", source.url(self.file)));
        let address = network.resolve(&source.host).map_err(|error| {
            log.line("HTTP: dns failed");
            Failure::Try(format!("Host '{}' not found. ({error})", source.host))
        })?;
        let started = Instant::now();
        let stream = network.connect(SocketAddrV4::new(address, source.port))?;
        match &source.authority {
            None => self.ask(stream, started, log),
            Some(authority) => {
                let stream = authority.wrap(&source.host, stream).map_err(Failure::Try)?;
                self.ask(stream, started, log)
            }
        }
    }

    fn ask(&mut self, mut stream: impl Stream, started: Instant, log: &mut Log) -> Result<(), Failure> {
        stream.write_all(self.request().as_bytes())?;
        stream.flush()?;
        let (head, rest) = read_head(&mut stream)?;
        let total = self.accept(&head)?;
        let mut body = io::Cursor::new(rest).chain(stream);
        let mut piece = vec![0; 64 * 1024];
        while (self.have.len() as u64) < total {
            let left =
                usize::try_from(total - self.have.len() as u64).unwrap_or(piece.len()).min(piece.len());
            let count = match body.read(piece.get_mut(..left).unwrap_or_default()) {
                Ok(0) => {
                    return Err(Failure::Try(format!(
                        "the connection closed at {} of {total} bytes",
                        self.have.len()
                    )));
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                result => result?,
            };
            self.have.extend_from_slice(piece.get(..count).unwrap_or_default());
            self.show_progress(total, started, log);
        }
        Ok(())
    }

    fn request(&self) -> String {
        let Self { source, pi, .. } = self;
        let host = if source.port == source.default_port() {
            source.host.clone()
        } else {
            format!("{}:{}", source.host, source.port)
        };
        let agent = format!(
            "rpiboot/1.0 ({:x}; version:{:.8} timestamp:{})",
            pi.revision(),
            version::GIT,
            version::TIMESTAMP
        );
        let range = if self.have.is_empty() {
            String::new()
        } else {
            format!("Range: bytes={}-\r\n", self.have.len())
        };
        format!(
            "GET {} HTTP/1.1\r\nhost: {host}\r\nUser-Agent: {agent}\r\n{range}Connection: close\r\n\r\n",
            source.path_of(self.file)
        )
    }

    /// Decides on an answer by its head; gives the length of the whole file.
    fn accept(&mut self, head: &Head) -> Result<u64, Failure> {
        let refuse = |kind, why: fmt::Arguments<'_>| {
            Err(Failure::Refused(Refusal::new(kind, format!("{}: {why}", self.source.url(self.file)))))
        };
        match head.status {
            200 | 206 => {}
            404 => return refuse(Kind::NotFound, format_args!("the server has no such file (404)")),
            301..=303 | 307 | 308 => {
                return refuse(
                    Kind::Download,
                    format_args!(
                        "the server redirects ({}), which the bootloader does not follow",
                        head.status
                    ),
                );
            }
            416 => {
                self.have.clear();
                return Err(Failure::Try("the server's file is shorter than what is here already".into()));
            }
            status => return Err(Failure::Try(format!("the server answered {status}"))),
        }
        if let Some(encoding) = &head.transfer_encoding {
            return refuse(
                Kind::Download,
                format_args!(
                    "the answer has Transfer-Encoding: {encoding}, which the bootloader cannot read"
                ),
            );
        }
        if let Some(encoding) = head.content_encoding.as_deref().filter(|e| *e != "identity") {
            return refuse(
                Kind::Download,
                format_args!("the answer has Content-Encoding: {encoding}, which the bootloader cannot read"),
            );
        }
        let Some(length) = head.content_length else {
            return refuse(Kind::Download, format_args!("the answer has no Content-Length"));
        };
        let have = self.have.len() as u64;
        let total = if head.status == 206 {
            match head.content_range {
                Some((start, total)) if start == have && length.checked_add(have) == Some(total) => total,
                _ => {
                    self.have.clear();
                    return Err(Failure::Try(
                        "the server answered with another range than was asked for".into(),
                    ));
                }
            }
        } else {
            self.have.clear();
            length
        };
        if total > self.limit {
            return refuse(
                Kind::TooLarge,
                format_args!("File is too large. Max size {} (it has {total} bytes)", self.limit),
            );
        }
        Ok(total)
    }

    fn show_progress(&mut self, total: u64, started: Instant, log: &mut Log) {
        let percent = self.have.len() as u64 * 100 / total.max(1);
        if total >= 1024 * 1024 && (percent / 10 > self.shown / 10) {
            log.line(format_args!("HTTP: got {percent}% at {} ms", started.elapsed().as_millis()));
            self.shown = percent;
        }
    }
}

/// What an answer says before its body.
#[derive(Debug, Default, PartialEq, Eq)]
struct Head {
    status: u16,
    content_length: Option<u64>,
    /// First offset and size of the whole.
    content_range: Option<(u64, u64)>,
    transfer_encoding: Option<String>,
    content_encoding: Option<String>,
}

/// Reads up to the end of the head; gives also the bytes that came after it.
fn read_head(stream: &mut impl Read) -> Result<(Head, Vec<u8>), Failure> {
    let mut bytes = Vec::new();
    let mut piece = [0; 4096];
    loop {
        let count = match stream.read(&mut piece) {
            Ok(0) => return Err(Failure::Try("the connection closed before the answer's head ended".into())),
            Err(error) if error.kind() == ErrorKind::Interrupted => continue,
            result => result?,
        };
        bytes.extend_from_slice(piece.get(..count).unwrap_or_default());
        match parse_head(&bytes) {
            Ok(Some((head, length))) => return Ok((head, bytes.split_off(length))),
            Ok(None) if bytes.len() < HEAD_LIMIT => {}
            Ok(None) => {
                return Err(Failure::Try(format!("the answer's head is longer than {HEAD_LIMIT} bytes")));
            }
            Err(why) => return Err(Failure::Try(format!("the answer is not HTTP: {why}"))),
        }
    }
}

/// Parses a head, if it is complete; gives also its length.
fn parse_head(bytes: &[u8]) -> Result<Option<(Head, usize)>, String> {
    let mut headers = [httparse::EMPTY_HEADER; 64];
    let mut response = httparse::Response::new(&mut headers);
    let length = match response.parse(bytes).map_err(|e| e.to_string())? {
        httparse::Status::Complete(length) => length,
        httparse::Status::Partial => return Ok(None),
    };
    let mut head = Head { status: response.code.unwrap_or_default(), ..Head::default() };
    for header in response.headers.iter() {
        let value = String::from_utf8_lossy(header.value).trim().to_ascii_lowercase();
        match header.name.to_ascii_lowercase().as_str() {
            "content-length" => {
                let number = value.parse().map_err(|_| format!("Content-Length: {value:?}"))?;
                if head.content_length.is_some_and(|other| other != number) {
                    return Err("two different Content-Lengths".into());
                }
                head.content_length = Some(number);
            }
            "content-range" => head.content_range = parse_content_range(&value),
            "transfer-encoding" => head.transfer_encoding = Some(value),
            "content-encoding" => head.content_encoding = Some(value),
            _ => {}
        }
    }
    Ok(Some((head, length)))
}

fn parse_content_range(value: &str) -> Option<(u64, u64)> {
    let (range, total) = value.strip_prefix("bytes ")?.split_once('/')?;
    let (start, _) = range.split_once('-')?;
    Some((start.parse().ok()?, total.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn sources() {
        assert_eq!(
            Source::new("192.0.2.1", 80, "pi").unwrap().url("boot.img"),
            "http://192.0.2.1:80/pi/boot.img"
        );
        assert_eq!(
            Source::new("boot.example", 8080, "").unwrap().url("boot.sig"),
            "http://boot.example:8080/boot.sig"
        );
        for host in ["", "http://x", "x/y", "Boot", "x:80", "x\r\n"] {
            assert!(Source::new(host, 80, "pi").unwrap_err().starts_with("HTTP_HOST"), "{host}");
        }
        for path in ["a b", "a\r\nb", "é", "a?b"] {
            assert!(Source::new("x", 80, path).unwrap_err().starts_with("HTTP_PATH"), "{path}");
        }
    }

    #[test]
    fn heads() {
        let text = b"HTTP/1.0 206 Partial\r\ncontent-length: 5\r\nContent-Range: bytes 10-14/15\r\n\r\nbody";
        let (head, length) = parse_head(text).unwrap().unwrap();
        assert_eq!((head.status, head.content_length, head.content_range), (206, Some(5), Some((10, 15))));
        assert_eq!(&text[length..], b"body");
        assert_eq!(parse_head(b"HTTP/1.1 200 OK\r\ncontent-le").unwrap(), None);
        for wrong in [
            "SSH-2.0-x\r\n\r\n",
            "HTTP/1.1 200 OK\r\ncontent-length: x\r\n\r\n",
            "HTTP/1.1 200 OK\r\ncontent-length: -1\r\n\r\n",
        ] {
            assert!(parse_head(wrong.as_bytes()).is_err(), "{wrong}");
        }
    }

    proptest! {
        #[test]
        fn any_bytes_are_a_head_or_none(bytes in prop::collection::vec(any::<u8>(), 0..200), start in "HTTP/1.[01] [0-9]{1,4}( OK)?\r\n(content-length: [0-9]{0,22}\r\n)?") {
            let _either = parse_head(&[start.as_bytes(), &bytes].concat());
        }
    }
}
