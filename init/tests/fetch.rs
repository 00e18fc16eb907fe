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
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use init::event::Progress;
use init::pid1::http::{self, Way};
use init::pid1::image::{Hashes, Image, Listener};
use init::transport::Transport;
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

fn way() -> Way {
    Way::new(&Transport::default()).unwrap()
}

/// Fetches into a file of its own; gives the result, what was told, and the file's bytes.
fn fetch(image: &Image, path: &std::path::Path) -> (anyhow::Result<()>, Told, Vec<u8>) {
    fetch_again(image, path, 0)
}

fn fetch_again(image: &Image, path: &std::path::Path, tries: usize) -> (anyhow::Result<()>, Told, Vec<u8>) {
    let way = way();
    let mut told = Told::default();
    let result = image.fetch(&way, path, tries, &mut told);
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
    let error = http::range(&way().client, &wrong.url, 0..10, wrong.size, None).unwrap_err().to_string();
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

/// Bytes over the wire, of all servers.
fn wire(servers: &[&Server]) -> usize {
    servers.iter().flat_map(|server| server.sent()).map(|(start, end)| end - start).sum()
}

/// Invariant 7: wherever a connection breaks, no byte comes twice.
#[test]
fn a_cut_costs_nothing_wherever_it_is() {
    let content = content(20, 777);
    for percent in [10, 50, 99] {
        let cuts: [Fault; 3] = [
            |n, body| body.truncate(if n == 0 { body.len() / 10 } else { body.len() }),
            |n, body| body.truncate(if n == 0 { body.len() / 2 } else { body.len() }),
            |n, body| body.truncate(if n == 0 { body.len() / 100 * 99 } else { body.len() }),
        ];
        let cut = cuts[[10, 50, 99].iter().position(|known| *known == percent).unwrap()];
        let folder = tempfile::tempdir().unwrap();
        let server = Server::start(content.clone(), cut);
        let (result, told, bytes) = fetch(&image(&server.url, &content), &folder.path().join("image"));
        result.unwrap();
        assert!(bytes == content && told.troubles.len() == 1, "{percent} %: {:?}", told.troubles);
        assert_eq!(wire(&[&server]), content.len(), "{percent} %");
    }
}

#[test]
fn a_mirror_and_a_wrong_chunk_cost_a_chunk() {
    let folder = tempfile::tempdir().unwrap();
    let content = content(20, 777);
    // Cut at a third with a wrong byte before; the mirror has it right, but is cut once too.
    let first = Server::start(content.clone(), |_, body| {
        body[3 * CHUNK + 1] ^= 1;
        body.truncate(body.len() / 3);
    });
    let second = Server::start(content.clone(), |n, body| {
        if n == 0 {
            body.truncate(body.len() / 2);
        }
    });
    let image = Image { mirrors: vec![second.url.clone()], ..image(&first.url, &content) };
    let (result, _, bytes) = fetch(&image, &folder.path().join("image"));
    result.unwrap();
    assert!(bytes == content);
    let wire = wire(&[&first, &second]);
    assert!(wire <= content.len() + 2 * CHUNK, "{wire} bytes for {}: {:?}", content.len(), second.sent());
}

/// What the test of the same name starts anew and kills.
#[test]
#[ignore = "a_worker_that_dies_costs_two_chunks starts it"]
fn worker() {
    let variable = |name: &str| std::env::var(name).unwrap();
    let url = Url::parse(&variable("IMAGE_URL")).unwrap();
    let content = content(64, 777);
    let path = variable("IMAGE_PATH");
    image(&url, &content).fetch(&way(), Path::new(&path), 0, &mut Told::default()).unwrap();
}

#[test]
fn a_worker_that_dies_costs_two_chunks() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("image");
    let content = content(64, 777);
    // Half of it and a bit, and then nothing for as long as the worker lives.
    let half = 32 * CHUNK + 999;
    let (dead, died) = std::sync::mpsc::channel::<()>();
    let died = Mutex::new(died);
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = Url::parse(&format!("http://{}/x.squashfs", listener.local_addr().unwrap())).unwrap();
    let all = content.clone();
    let server = std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let mut lines = BufReader::new(&stream).lines();
        while lines.next().is_some_and(|line| line.is_ok_and(|line| !line.is_empty())) {}
        let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", all.len());
        stream.write_all(head.as_bytes()).unwrap();
        stream.write_all(&all[..half]).unwrap();
        died.lock().unwrap().recv().unwrap();
    });
    let mut worker = Command::new(std::env::current_exe().unwrap())
        .args(["--ignored", "--exact", "worker"])
        .envs([("IMAGE_URL", url.as_str()), ("IMAGE_PATH", path.to_str().unwrap())])
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    // Until it has stored all but what may be on its way.
    let until = std::time::Instant::now() + Duration::from_secs(60);
    while !std::fs::metadata(&path).is_ok_and(|data| data.len() >= (half - 2 * CHUNK) as u64) {
        assert!(std::time::Instant::now() < until, "nothing is stored");
        std::thread::yield_now();
    }
    worker.kill().unwrap();
    worker.wait().unwrap();
    dead.send(()).unwrap();
    server.join().unwrap();

    let again = Server::start(content.clone(), |_, _| {});
    let (result, _, bytes) = fetch(&image(&again.url, &content), &path);
    result.unwrap();
    assert!(bytes == content);
    let wire = half + wire(&[&again]);
    assert!(wire <= content.len() + 2 * CHUNK, "{wire} bytes for {}", content.len());
}

#[test]
fn a_file_that_changes_is_no_half_of_another() {
    use sha2::Digest;
    let (old, new) = (content(6, 0), content(6, 0).iter().map(|byte| !byte).collect::<Vec<u8>>());
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = Url::parse(&format!("http://{}/x.squashfs", listener.local_addr().unwrap())).unwrap();
    let (before, after) = (old.clone(), new.clone());
    // The first answer breaks off; then the file is another one, and If-Range gets all of it.
    std::thread::spawn(move || {
        for (n, stream) in listener.incoming().flatten().enumerate() {
            let mut lines = BufReader::new(&stream).lines().map_while(Result::ok);
            let conditional = lines
                .by_ref()
                .take_while(|line| !line.is_empty())
                .filter(|line| line.to_lowercase().starts_with("if-range:"))
                .count()
                > 0;
            let (tag, body, part) =
                if n == 0 { ("old", &before, &before[..2 * CHUNK]) } else { ("new", &after, &after[..]) };
            assert_eq!(conditional, n > 0 && n < 4);
            let head = format!(
                "HTTP/1.1 200 OK\r\nETag: \"{tag}\"\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
                body.len()
            );
            let _ = (&stream).write_all(&[head.as_bytes(), part].concat());
        }
    });
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("image");
    let hash = sha2::Sha256::digest(&new).into();
    let whole = Image { hashes: Hashes::Whole(hash), ..image(&url, &new) };
    let (result, _, bytes) = fetch(&whole, &path);
    let error = result.unwrap_err().to_string();
    assert!(error.contains("has changed on the server") && error.contains("\"new\""), "{error}");
    assert!(bytes.is_empty(), "half of the old file is of no use");
    let (result, _, bytes) = fetch(&whole, &path);
    result.unwrap();
    assert!(bytes == new);
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
    let client = way().client;
    let small = http::small_file(&client, &url, 100).unwrap_err().to_string();
    let range = http::range(&client, &url, 0..6, 6, None).unwrap_err().to_string();
    for error in [small, range] {
        assert!(error.contains("captive portal") && error.contains("/x.squashfs"), "{error}");
    }
}
