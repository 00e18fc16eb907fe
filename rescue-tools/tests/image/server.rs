//! An HTTP server that cuts connections where a test says so, and counts what it sends.

use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};

/// What it serves, and how.
pub(crate) struct Site {
    pub(crate) bytes: Vec<u8>,
    pub(crate) etag: String,
    /// After so many bytes of the file, the connection is cut; the first is taken away each time.
    pub(crate) cuts: Vec<u64>,
    /// Whether it knows Range.
    pub(crate) ranges: bool,
    /// Whether it says how long the file is.
    pub(crate) says_length: bool,
    /// Answers 503 so often before anything else.
    pub(crate) busy: u32,
    /// Bytes of the file that were sent.
    pub(crate) sent: u64,
    pub(crate) requests: Vec<String>,
}

pub(crate) struct Server {
    pub(crate) port: u16,
    pub(crate) site: Arc<Mutex<Site>>,
}

impl Server {
    pub(crate) fn start(bytes: Vec<u8>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let site = Arc::new(Mutex::new(Site {
            bytes,
            etag: "\"one\"".into(),
            cuts: Vec::new(),
            ranges: true,
            says_length: true,
            busy: 0,
            sent: 0,
            requests: Vec::new(),
        }));
        let serving = site.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let site = serving.clone();
                std::thread::spawn(move || while answer(&stream, &site).is_some() {});
            }
        });
        Server { port, site }
    }

    pub(crate) fn url(&self, name: &str) -> String {
        format!("http://127.0.0.1:{}/{name}", self.port)
    }
}

/// Answers one request; none: the connection is over.
fn answer(mut stream: &TcpStream, site: &Mutex<Site>) -> Option<()> {
    let mut lines = BufReader::new(stream).lines().map_while(Result::ok);
    let request: Vec<String> = lines.by_ref().take_while(|line| !line.is_empty()).collect();
    let header = |name: &str| {
        let found = request
            .iter()
            .find_map(|line| line.split_once(": ").filter(|(n, _)| n.eq_ignore_ascii_case(name)));
        found.map(|(_, value)| value.to_string())
    };
    let first = request.first()?.clone();
    let mut site = site.lock().unwrap();
    site.requests.push(format!("{first} {}", header("range").unwrap_or_default()));
    if site.busy > 0 {
        site.busy -= 1;
        return stream.write_all(b"HTTP/1.1 503 Busy\r\nContent-Length: 0\r\n\r\n").ok();
    }
    if first.contains(".minisig") {
        return stream.write_all(b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n").ok();
    }
    let total = site.bytes.len() as u64;
    let unchanged = header("if-range").is_none_or(|tag| tag == site.etag);
    let asked =
        header("range").and_then(|range| range.strip_prefix("bytes=")?.strip_suffix('-')?.parse().ok());
    let (start, status) = match asked {
        Some(start) if site.ranges && unchanged => {
            (start, format!("206 Partial Content\r\nContent-Range: bytes {start}-{}/{total}", total - 1))
        }
        _ => (0, "200 OK".to_string()),
    };
    let length = if site.says_length {
        format!("Content-Length: {}", total - start)
    } else {
        "Connection: close".into()
    };
    let head = format!("HTTP/1.1 {status}\r\nETag: {}\r\n{length}\r\n\r\n", site.etag);
    stream.write_all(head.as_bytes()).ok()?;
    let end = if site.cuts.is_empty() { total } else { site.cuts.remove(0).max(start) };
    let body = site.bytes[start as usize..end as usize].to_vec();
    let says_length = site.says_length;
    site.sent += body.len() as u64;
    drop(site);
    stream.write_all(&body).ok()?;
    let whole = end == total && says_length;
    if !whole {
        stream.shutdown(std::net::Shutdown::Write).ok()?;
    }
    whole.then_some(())
}
