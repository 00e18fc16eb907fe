//! A web server that says what a test wants, plain or over TLS.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, reason = "a test may panic")]
#![allow(dead_code, unreachable_pub, reason = "each test program uses its part")]

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener};
use std::sync::{Arc, Mutex};

use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ServerConfig, ServerConnection, StreamOwned};
use url::Url;

/// A request: its first line and its headers' lines, in lower case.
#[derive(Clone, Debug, Default)]
pub struct Request {
    pub line: String,
    pub headers: Vec<String>,
}

impl Request {
    fn read(from: &mut (impl Read + ?Sized)) -> Option<Self> {
        let mut lines = BufReader::new(from).lines().map_while(Result::ok);
        let line = lines.next().filter(|line| !line.is_empty())?;
        let headers = lines.take_while(|line| !line.is_empty()).map(|line| line.to_lowercase()).collect();
        Some(Request { line, headers })
    }

    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find_map(|line| line.strip_prefix(name)?.strip_prefix(": "))
    }
}

/// Answers by a function; remembers what it was asked.
pub struct Server {
    pub address: SocketAddr,
    pub asked: Arc<Mutex<Vec<Request>>>,
}

impl Server {
    pub fn start(answer: impl Fn(&Request) -> Vec<u8> + Send + 'static) -> Self {
        Self::run("127.0.0.1:0", None, answer)
    }

    pub fn at(address: &str, answer: impl Fn(&Request) -> Vec<u8> + Send + 'static) -> Self {
        Self::run(address, None, answer)
    }

    pub fn tls(
        chain: Vec<CertificateDer<'static>>,
        key: PrivateKeyDer<'static>,
        answer: impl Fn(&Request) -> Vec<u8> + Send + 'static,
    ) -> Self {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(chain, key)
            .unwrap();
        Self::run("127.0.0.1:0", Some(Arc::new(config)), answer)
    }

    fn run(
        address: &str,
        tls: Option<Arc<ServerConfig>>,
        answer: impl Fn(&Request) -> Vec<u8> + Send + 'static,
    ) -> Self {
        let listener = TcpListener::bind(address).unwrap();
        let address = listener.local_addr().unwrap();
        let asked: Arc<Mutex<Vec<Request>>> = Arc::default();
        let log = asked.clone();
        std::thread::spawn(move || {
            for mut stream in listener.incoming().flatten() {
                let speak = |stream: &mut dyn Stream| {
                    let Some(request) = Request::read(stream) else { return };
                    let answer = answer(&request);
                    log.lock().unwrap().push(request);
                    let _ = stream.write_all(&answer);
                    let _ = stream.flush();
                };
                match &tls {
                    None => speak(&mut stream),
                    Some(config) => {
                        let connection = ServerConnection::new(config.clone()).unwrap();
                        let mut stream = StreamOwned::new(connection, stream);
                        speak(&mut stream);
                        stream.conn.send_close_notify();
                        let _ = stream.flush();
                    }
                }
            }
        });
        Server { address, asked }
    }

    pub fn url(&self, path: &str) -> Url {
        Url::parse(&format!("http://{}/{path}", self.address)).unwrap()
    }

    pub fn count(&self) -> usize {
        self.asked.lock().unwrap().len()
    }
}

trait Stream: Read + Write {}
impl<T: Read + Write> Stream for T {}

/// An answer with its length, and these further lines.
pub fn answer(status: &str, headers: &[&str], body: &[u8]) -> Vec<u8> {
    let mut bytes = format!("HTTP/1.1 {status}\r\nContent-Length: {}\r\nConnection: close\r\n", body.len());
    for header in headers {
        bytes += &format!("{header}\r\n");
    }
    [bytes.as_bytes(), b"\r\n", body].concat()
}
