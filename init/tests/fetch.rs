//! The fetch of an image against a server that misbehaves on purpose, to the byte.
#![cfg(feature = "pid1")]
#![allow(
    missing_docs,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    reason = "a test may panic"
)]

use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use init::event::Progress;
use init::pid1::http;
use init::pid1::image::{Hashes, Image, Listener};
use url::Url;

const CHUNK: usize = 64 << 10;

/// What the server does with its `n`th answer, counted from 0.
type Fault = fn(n: usize, body: &mut Vec<u8>);

/// Serves `content`, with Range; remembers which bytes it sent.
struct Server {
    url: Url,
    sent: Arc<Mutex<Vec<(usize, usize)>>>,
}

impl Server {
    fn start(content: Vec<u8>, fault: Fault) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = Url::parse(&format!("http://{}/x.squashfs", listener.local_addr().unwrap())).unwrap();
        let sent: Arc<Mutex<Vec<(usize, usize)>>> = Arc::default();
        let log = sent.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let _ = answer(stream, &content, fault, &log);
            }
        });
        Server { url, sent }
    }

    fn sent(&self) -> Vec<(usize, usize)> {
        self.sent.lock().unwrap().clone()
    }
}

fn answer(
    mut stream: TcpStream,
    content: &[u8],
    fault: Fault,
    log: &Mutex<Vec<(usize, usize)>>,
) -> std::io::Result<()> {
    let mut range = 0..content.len();
    for line in BufReader::new(&stream).lines() {
        let line = line?.to_lowercase();
        if let Some(bytes) = line.strip_prefix("range: bytes=") {
            let (first, last) = bytes.split_once('-').unwrap();
            range = first.parse().unwrap()..last.parse::<usize>().unwrap() + 1;
        }
        if line.is_empty() {
            break;
        }
    }
    let length = range.len();
    let head = format!(
        "HTTP/1.1 206 Partial Content\r\nContent-Range: bytes {}-{}/{}\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n",
        range.start,
        range.end - 1,
        content.len()
    );
    let mut body = content[range.clone()].to_vec();
    let n = log.lock().unwrap().len();
    fault(n, &mut body);
    log.lock().unwrap().push((range.start, range.start + body.len()));
    stream.write_all(head.as_bytes())?;
    stream.write_all(&body)
}

#[derive(Default)]
struct Told {
    troubles: Vec<String>,
}

impl Listener for Told {
    fn progress(&mut self, _: Progress) {}
    fn trouble(&mut self, error: &anyhow::Error, _: Duration) {
        self.troubles.push(format!("{error:#}"));
    }
}

fn content(chunks: usize, tail: usize) -> Vec<u8> {
    (0..chunks * CHUNK + tail).map(|n| (n * n / 7 + n / 251) as u8).collect()
}

fn image(url: &Url, content: &[u8]) -> Image {
    let hashes = content.chunks(CHUNK).map(|chunk| *blake3::hash(chunk).as_bytes()).collect();
    let (size, chunk_size) = (content.len() as u64, CHUNK as u64);
    Image { url: url.clone(), mirrors: Vec::new(), size, chunk_size, hashes: Hashes::Chunks(hashes) }
}

/// Fetches into a file of its own; gives the result, what was told, and the file's bytes.
fn fetch(image: &Image, path: &std::path::Path) -> (anyhow::Result<()>, Told, Vec<u8>) {
    fetch_again(image, path, 0)
}

fn fetch_again(image: &Image, path: &std::path::Path, tries: usize) -> (anyhow::Result<()>, Told, Vec<u8>) {
    let client = http::client([&image.url]).unwrap();
    let mut told = Told::default();
    let result = image.fetch(&client, path, tries, &mut told);
    (result, told, std::fs::read(path).unwrap_or_default())
}

#[test]
fn a_connection_that_breaks_is_resumed_at_its_byte() {
    let content = content(9, 1234);
    // The first answers end in the middle of a chunk, on its border, and at once.
    let server = Server::start(content.clone(), |n, body| match n {
        0 => body.truncate(CHUNK * 2 + 77),
        1 => body.truncate(CHUNK - 77),
        2 => body.clear(),
        _ => {}
    });
    let folder = tempfile::tempdir().unwrap();
    let (result, told, bytes) = fetch(&image(&server.url, &content), &folder.path().join("image"));
    result.unwrap();
    assert!(bytes == content);
    assert_eq!(told.troubles.len(), 3, "{:?}", told.troubles);
    // Invariant 7: what was sent follows without gap or overlap.
    let sent = server.sent();
    assert_eq!(sent[0].0, 0);
    assert!(sent.windows(2).all(|pair| pair[0].1 == pair[1].0), "{sent:?}");
    assert_eq!(sent.last().unwrap().1, content.len());
}

#[test]
fn what_is_there_and_good_is_not_fetched() {
    let content = content(8, 0);
    let server = Server::start(content.clone(), |_, _| {});
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("image");
    // An earlier try left six chunks, of which one is damaged, and a longer end.
    let mut left = content[..6 * CHUNK].to_vec();
    left[3 * CHUNK + 5] ^= 1;
    std::fs::write(&path, left).unwrap();
    let (result, _, bytes) = fetch(&image(&server.url, &content), &path);
    result.unwrap();
    assert!(bytes == content);
    assert_eq!(server.sent(), [(3 * CHUNK, 4 * CHUNK), (6 * CHUNK, 8 * CHUNK)]);
}

#[test]
fn a_bad_chunk_is_fetched_once_more() {
    let content = content(5, 9);
    let server = Server::start(content.clone(), |n, body| {
        if n == 0 {
            body[2 * CHUNK] ^= 0x80;
        }
    });
    let folder = tempfile::tempdir().unwrap();
    let (result, _, bytes) = fetch(&image(&server.url, &content), &folder.path().join("image"));
    result.unwrap();
    assert!(bytes == content);
    assert_eq!(server.sent(), [(0, content.len()), (2 * CHUNK, 3 * CHUNK)]);
}

#[test]
fn a_chunk_that_stays_bad_is_refused_by_name() {
    let content = content(5, 9);
    let good = content.clone();
    let mut bad = content;
    bad[4 * CHUNK] ^= 1;
    let server = Server::start(bad, |_, _| {});
    let folder = tempfile::tempdir().unwrap();
    let (result, _, bytes) = fetch(&image(&server.url, &good), &folder.path().join("image"));
    let error = result.unwrap_err().to_string();
    assert!(error.contains("chunk 4 of 6 (bytes 262144 to 327679)"), "{error}");
    assert!(bytes[4 * CHUNK..5 * CHUNK].iter().all(|byte| *byte == 0), "a bad chunk is never stored");
}

#[test]
fn a_sha256_over_all_is_checked_and_a_wrong_one_keeps_nothing() {
    use sha2::Digest;
    let content = content(3, 500);
    let server = Server::start(content.clone(), |n, body| {
        if n == 0 {
            body.truncate(CHUNK + 1);
        }
    });
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("image");
    let hash = sha2::Sha256::digest(&content).into();
    let whole = Image { hashes: Hashes::Whole(hash), ..image(&server.url, &content) };
    let (result, _, bytes) = fetch(&whole, &path);
    result.unwrap();
    assert!(bytes == content);
    let other = Image { hashes: Hashes::Whole([7; 32]), ..whole };
    let (result, _, bytes) = fetch(&other, &path);
    assert!(format!("{:#}", result.unwrap_err()).contains("the command line says 0707"));
    assert!(bytes.is_empty());
}

#[test]
fn a_server_with_another_file_is_named() {
    let content = content(3, 0);
    let server = Server::start(content.clone(), |_, _| {});
    let mut wrong = image(&server.url, &content);
    wrong.size += 10;
    let client = http::client([&server.url]).unwrap();
    let error = http::range(&client, &wrong.url, 0, 10, wrong.size).unwrap_err().to_string();
    assert!(error.contains("has the file changed"), "{error}");
}

#[test]
fn a_mirror_takes_over_where_another_stopped() {
    let folder = tempfile::tempdir().unwrap();
    let content = content(20, 100);
    // The first breaks off after five chunks and a bit, and then has nothing any more.
    let first =
        Server::start(content.clone(), |n, body| body.truncate(if n == 0 { 5 * CHUNK + 999 } else { 0 }));
    let second = Server::start(content.clone(), |_, _| {});
    let image = Image { mirrors: vec![second.url.clone()], ..image(&first.url, &content) };
    let (result, told, bytes) = fetch(&image, &folder.path().join("image"));
    result.unwrap();
    assert!(bytes == content && told.troubles.len() == 1, "{:?}", told.troubles);
    // Nothing twice.
    assert_eq!(first.sent(), [(0, 5 * CHUNK + 999)]);
    assert_eq!(second.sent(), [(5 * CHUNK + 999, content.len())]);
}

#[test]
fn a_bad_chunk_is_asked_for_elsewhere_and_an_older_file_is_passed_over() {
    let folder = tempfile::tempdir().unwrap();
    let content = content(8, 0);
    let bad = Server::start(content.clone(), |_, body| body.iter_mut().take(1).for_each(|byte| *byte ^= 1));
    let good = Server::start(content.clone(), |_, _| {});
    let flipped = Image { mirrors: vec![good.url.clone()], ..image(&bad.url, &content) };
    fetch(&flipped, &folder.path().join("flipped")).0.unwrap();
    assert_eq!(good.sent(), [(0, CHUNK)]);
    let older = Server::start(content[..3 * CHUNK].to_vec(), |_, _| {});
    let behind = Image { mirrors: vec![good.url.clone()], ..image(&older.url, &content) };
    let (result, _, bytes) = fetch(&behind, &folder.path().join("older"));
    result.unwrap();
    assert!(bytes == content);
    // One that is wrong all over ends a try; the next begins with the other.
    let all = self::content(20, 0);
    let wrong = Server::start(all.iter().map(|byte| !byte).collect(), |_, _| {});
    let right = Server::start(all.clone(), |_, _| {});
    let image = Image { mirrors: vec![right.url.clone()], ..image(&wrong.url, &all) };
    let path = folder.path().join("wrong");
    assert!(fetch(&image, &path).0.unwrap_err().to_string().contains("another one"));
    let (result, _, bytes) = fetch_again(&image, &path, 1);
    result.unwrap();
    assert!(bytes == all);
}

#[test]
fn a_web_page_is_no_image() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = Url::parse(&format!("http://{}/x.squashfs", listener.local_addr().unwrap())).unwrap();
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let mut lines = BufReader::new(&stream).lines();
            while lines.next().is_some_and(|line| line.is_ok_and(|line| !line.is_empty())) {}
            let page = "HTTP/1.1 200 OK\r\nContent-Type: Text/HTML; charset=utf-8\r\nContent-Length: 6\r\n\r\n<html>";
            let _ = (&stream).write_all(page.as_bytes());
        }
    });
    let client = http::client([&url]).unwrap();
    let small = http::small_file(&client, &url, 100).unwrap_err().to_string();
    let range = http::range(&client, &url, 0, 6, 6).unwrap_err().to_string();
    for error in [small, range] {
        assert!(error.contains("captive portal") && error.contains("/x.squashfs"), "{error}");
    }
}
