//! The built program against real clients: curl, wget, and bytes on a socket as a boot ROM sends them.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, reason = "a test may panic")]

mod wget;

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::process::{Child, ChildStderr, Command, ExitStatus, Output, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::thread;

use tempfile::TempDir;

/// A running `http-boot serve` on a free port, and its root.
struct Server {
    child: Child,
    address: SocketAddr,
    root: TempDir,
    log: Receiver<String>,
}

impl Server {
    fn start() -> Self {
        let root = TempDir::new().unwrap();
        let listen = ["--listen", "127.0.0.1:0"];
        let mut child = Command::new(env!("CARGO_BIN_EXE_http-boot"))
            .args(["serve", "--log-json", "--root"])
            .arg(root.path())
            .args(listen)
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let log = lines(child.stderr.take().unwrap());
        let ready =
            log.iter().find(|line| line.contains("listening on")).expect("the server says where it listens");
        let address = ready.split("http://").nth(1).unwrap().split('"').next().unwrap().parse().unwrap();
        Self { child, address, root, log }
    }

    fn put(&self, path: &str, content: &[u8]) {
        let path = self.root.path().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, content).unwrap();
    }

    fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    /// Runs curl with the URL at the end of `arguments`.
    fn curl(&self, arguments: &[&str], path: &str) -> Output {
        let curl = Command::new("curl")
            .args(["--silent", "--show-error", "--path-as-is", "--max-time", "60"])
            .args(arguments)
            .arg(self.url(path))
            .output();
        curl.expect("curl runs (Debian package: curl)")
    }

    /// The status, headers (lower case) and body of an answer.
    fn get(&self, arguments: &[&str], path: &str) -> Answer {
        let output = self.curl(&[&["--include"], arguments].concat(), path);
        assert!(output.status.success(), "curl {path}: {}", String::from_utf8_lossy(&output.stderr));
        Answer::parse(&output.stdout)
    }

    fn raw(&self, request: &str) -> Answer {
        let mut stream = TcpStream::connect(self.address).unwrap();
        stream.write_all(request.as_bytes()).unwrap();
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).unwrap();
        Answer::parse(&answer)
    }

    fn signal(&self, name: &str) {
        assert!(Command::new("kill").args([name, &self.child.id().to_string()]).status().unwrap().success());
    }

    fn wait_for_log(&self, words: &str) -> String {
        self.log
            .iter()
            .find(|line| line.contains(words))
            .unwrap_or_else(|| panic!("the log ends without {words:?}"))
    }

    fn exit(&mut self) -> ExitStatus {
        self.child.wait().unwrap()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _gone = self.child.kill();
        let _gone = self.child.wait();
    }
}

fn lines(stderr: ChildStderr) -> Receiver<String> {
    let (sender, receiver) = channel();
    thread::spawn(move || {
        BufReader::new(stderr).lines().map_while(Result::ok).try_for_each(|line| sender.send(line))
    });
    receiver
}

struct Answer {
    status: String,
    headers: String,
    body: Vec<u8>,
}

impl Answer {
    fn parse(bytes: &[u8]) -> Self {
        let end = bytes.windows(4).position(|w| w == b"\r\n\r\n").expect("a head that ends");
        let head = String::from_utf8(bytes[..end].to_vec()).unwrap();
        let (status, headers) = head.split_once("\r\n").unwrap();
        Self {
            status: status.trim().into(),
            headers: headers.to_ascii_lowercase(),
            body: bytes[end + 4..].to_vec(),
        }
    }

    fn header(&self, name: &str) -> Option<&str> {
        self.headers.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": "))
    }

    fn text(&self) -> String {
        String::from_utf8(self.body.clone()).unwrap()
    }
}

/// Bytes without a short period, so that a piece from a wrong place is noticed.
fn noise(length: usize) -> Vec<u8> {
    let mut state = 0x2545_f491_4f6c_dd1d_u64;
    let mut bytes = Vec::with_capacity(length + 8);
    while bytes.len() < length {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        bytes.extend_from_slice(&state.to_le_bytes());
    }
    bytes.truncate(length);
    bytes
}

#[test]
fn whole_files_and_heads() {
    let server = Server::start();
    let content = noise(3_000_001);
    server.put("pi/boot.img", &content);
    server.put("empty", b"");
    let answer = server.get(&[], "/pi/boot.img");
    assert_eq!(answer.status, "HTTP/1.1 200 OK");
    assert_eq!(answer.header("content-length"), Some("3000001"));
    assert_eq!(answer.header("transfer-encoding"), None);
    assert_eq!(answer.header("accept-ranges"), Some("bytes"));
    assert!(answer.header("last-modified").is_some_and(|d| d.ends_with("gmt")));
    assert!(answer.body == content);

    let head = server.get(&["--head"], "/pi/boot.img");
    assert_eq!((head.status.as_str(), head.header("content-length")), ("HTTP/1.1 200 OK", Some("3000001")));
    assert_eq!(head.header("etag"), answer.header("etag"));
    assert!(head.body.is_empty());

    let empty = server.get(&[], "/empty");
    assert_eq!((empty.status.as_str(), empty.header("content-length")), ("HTTP/1.1 200 OK", Some("0")));
    // An encoding that is asked for is not used.
    assert!(server.get(&["--compressed"], "/pi/boot.img").body == content);
    assert!(server.get(&[], "//pi//boot.img").body == content);
}

#[test]
fn ranges() {
    let server = Server::start();
    let content = noise(2_000_000);
    server.put("f", &content);
    let part = server.get(&["--range", "600000-1700000"], "/f");
    assert_eq!(part.status, "HTTP/1.1 206 Partial Content");
    assert_eq!(part.header("content-range"), Some("bytes 600000-1700000/2000000"));
    assert_eq!(part.header("content-length"), Some("1100001"));
    assert!(part.body == content[600_000..=1_700_000]);
    assert!(server.get(&["--range", "-5"], "/f").body == content[1_999_995..]);

    let beyond = server.get(&["--range", "2000000-"], "/f");
    assert_eq!(beyond.status, "HTTP/1.1 416 Range Not Satisfiable");
    assert_eq!(beyond.header("content-range"), Some("bytes */2000000"));
    // Several ranges: the whole file, as RFC 9110 permits.
    assert_eq!(server.get(&["--range", "0-1,5-6"], "/f").status, "HTTP/1.1 200 OK");

    let etag = part.header("etag").unwrap();
    let if_range = |value: &str| {
        server.get(&["--range", "10-19", "--header", &format!("If-Range: {value}")], "/f").status
    };
    assert_eq!(if_range(etag), "HTTP/1.1 206 Partial Content");
    assert_eq!(if_range("\"other\""), "HTTP/1.1 200 OK");
}

#[test]
fn resuming_completes_the_file() {
    let server = Server::start();
    let content = noise(5_000_000);
    server.put("f", &content);
    let target = server.root.path().join(".part");
    fs::write(&target, &content[..1_234_567]).unwrap();
    let output = server.curl(&["--continue-at", "-", "--output", target.to_str().unwrap()], "/f");
    assert!(output.status.success());
    assert!(fs::read(&target).unwrap() == content);
    assert!(server.wait_for_log("\"request\"").contains(r#""bytes":3765433,"range":"\"bytes=1234567-\"""#));
}

#[test]
fn known_versions_are_not_sent_again() {
    let server = Server::start();
    server.put("f", b"one");
    let etag = server.get(&[], "/f").header("etag").unwrap().to_owned();
    let header = format!("If-None-Match: {etag}");
    let known = server.get(&["--header", &header], "/f");
    assert_eq!(known.status, "HTTP/1.1 304 Not Modified");
    assert!(known.body.is_empty());
    // Another file of the same size under the same name.
    server.put("new", b"two");
    fs::rename(server.root.path().join("new"), server.root.path().join("f")).unwrap();
    assert_eq!(server.get(&["--header", &header], "/f").text(), "two");
}

#[test]
fn nothing_outside_the_root_is_served() {
    let server = Server::start();
    let outside = TempDir::new().unwrap();
    fs::write(outside.path().join("secret"), "secret").unwrap();
    let root = server.root.path();
    server.put("pi/f", b"f");
    server.put(".hidden", b"secret");
    server.put("pi/.git/config", b"secret");
    let link = |target: &Path, name: &str| std::os::unix::fs::symlink(target, root.join(name)).unwrap();
    link(&outside.path().join("secret"), "absolute");
    link(outside.path(), "folder");
    let up = Path::new("..").join(outside.path().file_name().unwrap()).join("secret");
    link(&up, "relative");
    link(Path::new("pi/f"), "inside");
    link(Path::new("loop"), "loop");
    assert!(Command::new("mkfifo").arg(root.join("fifo")).status().unwrap().success());

    assert_eq!(server.get(&[], "/inside").text(), "f");
    let name = outside.path().file_name().unwrap().to_str().unwrap();
    for path in [
        "/../etc/passwd",
        "/pi/../../../../etc/passwd",
        "/%2e%2e/%2e%2e/etc/passwd",
        "/..%2f..%2fetc/passwd",
        "/pi/..%2F..%2F..%2Fetc%2Fpasswd",
        "/.hidden",
        "/%2ehidden",
        "/pi/.git/config",
        "/./pi/f",
        "/absolute",
        "/folder/secret",
        "/relative",
        "/loop",
        "/fifo",
        "/pi",
        "/pi/",
        "/",
        "/missing",
        "/pi/f/x",
        "/f%00",
        "/proc/self/environ",
        &format!("/../{name}/secret"),
        &format!("/{}", "x".repeat(300)),
    ] {
        let answer = server.get(&[], path);
        assert_eq!(answer.status, "HTTP/1.1 404 Not Found", "{path}");
        assert!(answer.text().starts_with("no such file"), "{path}");
        assert_eq!(answer.header("content-length"), Some(answer.body.len().to_string().as_str()), "{path}");
        assert_eq!(answer.header("location"), None, "{path}");
    }
    assert_eq!(server.get(&[], "/a%zz").status, "HTTP/1.1 400 Bad Request");
    assert!(server.wait_for_log("a symlink leads out of the root").contains("absolute"));
}

#[test]
fn a_boot_rom_gets_its_file() {
    let server = Server::start();
    let content = noise(1_000_000);
    server.put("pi/boot.img", &content);
    let agent = "User-Agent: rpiboot/1.0 (c03112; version:8ba17717 timestamp:1673616036)\r\n";
    for version in ["1.0", "1.1"] {
        let request = format!(
            "GET /pi/boot.img HTTP/{version}\r\nhost: 192.0.2.1:8080\r\nConnection: close\r\n{agent}\r\n"
        );
        let answer = server.raw(&request);
        assert_eq!(answer.status, format!("HTTP/{version} 200 OK"));
        assert_eq!(answer.header("content-length"), Some("1000000"));
        assert_eq!(answer.header("transfer-encoding"), None);
        assert!(answer.body == content);
    }
    // HTTP/1.0 needs no host at all, and closes by itself.
    assert!(server.raw("GET /pi/boot.img HTTP/1.0\r\n\r\n").body == content);
    let missing = server.raw("GET /pi/none HTTP/1.0\r\n\r\n");
    assert_eq!(
        (missing.status.as_str(), missing.header("content-length")),
        ("HTTP/1.0 404 Not Found", Some("13"))
    );
    assert!(server.get(&["--http1.0"], "/pi/boot.img").body == content);
}

#[test]
fn other_methods_are_refused() {
    let server = Server::start();
    server.put("f", b"f");
    for method in ["POST", "PUT", "DELETE", "OPTIONS"] {
        let answer = server.get(&["--request", method], "/f");
        assert_eq!(
            (answer.status.as_str(), answer.header("allow")),
            ("HTTP/1.1 405 Method Not Allowed", Some("get, head"))
        );
    }
    let answer = server.get(&["--request", "DELETE"], "/v1/devices");
    assert_eq!(answer.status, "HTTP/1.1 405 Method Not Allowed");
    assert_eq!(answer.header("content-length"), Some(answer.body.len().to_string().as_str()));
}

#[test]
fn a_file_that_changes_is_cut() {
    let server = Server::start();
    let path = server.root.path().join("f");
    // Larger than all buffers between the two: the server must still be reading when the file changes.
    let size = 256 * 1024 * 1024;
    fs::File::create(&path).unwrap().set_len(size).unwrap();
    let mut stream = TcpStream::connect(server.address).unwrap();
    stream.write_all(b"GET /f HTTP/1.0\r\n\r\n").unwrap();
    let mut first = [0; 1000];
    stream.read_exact(&mut first).unwrap();
    fs::OpenOptions::new().write(true).open(&path).unwrap().write_all(b"changed").unwrap();
    let mut rest = 0_u64;
    let mut piece = vec![0; 1 << 20];
    while let Ok(n @ 1..) = stream.read(&mut piece) {
        rest += n as u64;
    }
    assert!(rest < size, "{rest}");
    let line = server.wait_for_log("request cut");
    assert!(line.contains("the file changed during the transfer"), "{line}");
}

/// Sizes around those of the pieces that the kernel sends; all on one connection.
#[test]
fn files_come_as_they_are() {
    let (server, whole) = (Server::start(), noise(3 << 20));
    let (copied, longest, tail) = (64 << 10, 1 << 20, 1024);
    let sizes =
        [3 << 20, 1, tail, copied - 1, copied, copied + 1, longest, longest + tail, longest + tail + 1];
    sizes.iter().for_each(|size| server.put(&size.to_string(), &whole[..*size]));
    let urls = sizes.map(|size| server.url(&format!("/{size}")));
    let all = server.curl(&urls.each_ref().map(String::as_str), "/1").stdout;
    assert!(all == [sizes.map(|size| &whole[..size]).concat(), whole[..1].to_vec()].concat());
    for range in [0..longest + 5, 77..3 << 20, longest..longest + copied + 1] {
        let header = format!("Range: bytes={}-{}", range.start, range.end - 1);
        assert!(server.get(&["-H", &header], "/3145728").body == whole[range]);
    }
}

#[test]
fn a_file_that_is_replaced_goes_on_as_it_was() {
    let server = Server::start();
    let old = noise(64 * 1024 * 1024);
    server.put("f", &old);
    let mut stream = TcpStream::connect(server.address).unwrap();
    stream.write_all(b"GET /f HTTP/1.0\r\n\r\n").unwrap();
    let mut answer = vec![0; 1000];
    stream.read_exact(&mut answer).unwrap();
    server.put("new", b"new");
    fs::rename(server.root.path().join("new"), server.root.path().join("f")).unwrap();
    stream.read_to_end(&mut answer).unwrap();
    assert!(Answer::parse(&answer).body == old);
    assert_eq!(server.get(&[], "/f").text(), "new");
}

#[test]
fn events_come_back() {
    let server = Server::start();
    let event = r#"{"format":1,"boot_id":"b1","sequence":1,"uptime_ms":900,"step":"fetch","state":"progress","progress":{"bytes":5,"total":10,"rate":2},"addresses":["192.0.2.7/24"],"host_key":"SHA256:x","model":"Raspberry Pi 4 Model B Rev 1.4"}"#;
    let post = |serial: &str, body: &str| {
        server.get(&["--header", "Expect:", "--data-binary", body], &format!("/v1/boot/{serial}/events"))
    };
    assert_eq!(post("10000000deadbeef", event).status, "HTTP/1.1 204 No Content");
    let failed = r#"{"format":1,"boot_id":"b1","sequence":2,"uptime_ms":950,"step":"fetch","state":"failed","error":"no route","retry_in_s":4}"#;
    assert_eq!(post("10000000deadbeef", failed).status, "HTTP/1.1 204 No Content");
    assert_eq!(post("10000000deadbeef", &event.replace("b1", "b2")).status, "HTTP/1.1 204 No Content");

    let all: serde_json::Value = serde_json::from_slice(&server.get(&[], "/v1/devices").body).unwrap();
    let device = &all["devices"][0];
    for (field, value) in [
        ("serial", serde_json::json!("10000000deadbeef")),
        ("address", "127.0.0.1".into()),
        ("boots", 2.into()),
        ("step", "fetch".into()),
        ("state", "progress".into()),
        ("host_key", "SHA256:x".into()),
        ("model", "Raspberry Pi 4 Model B Rev 1.4".into()),
        ("addresses", serde_json::json!(["192.0.2.7/24"])),
        ("progress", serde_json::json!({"bytes": 5, "total": 10, "rate": 2})),
    ] {
        assert_eq!(device[field], value, "{field}");
    }
    assert!(device["first_seen"].as_str().unwrap() <= device["last_seen"].as_str().unwrap());
    let ring: serde_json::Value =
        serde_json::from_slice(&server.get(&[], "/v1/devices/10000000deadbeef/events").body).unwrap();
    assert_eq!(ring["events"].as_array().unwrap().len(), 3);
    assert_eq!(ring["events"][1]["error"], "no route");
    assert_eq!(server.get(&[], "/v1/devices/other/events").status, "HTTP/1.1 404 Not Found");
}

#[test]
fn bad_events_are_refused_with_one_line() {
    let server = Server::start();
    let post = |serial: &str, body: &str| {
        let answer =
            server.get(&["--header", "Expect:", "--data-binary", body], &format!("/v1/boot/{serial}/events"));
        assert_eq!(answer.text().lines().count(), 1);
        (answer.status.clone(), answer.text())
    };
    let (status, line) = post("s", r#"{"format":1,"boot_id":"b","sequence":"x"}"#);
    assert_eq!(status, "HTTP/1.1 400 Bad Request");
    assert!(line.starts_with("sequence: invalid type"), "{line}");
    assert_eq!(post("a%2fb", "{}").0, "HTTP/1.1 400 Bad Request");
    assert!(post(&"x".repeat(65), "{}").1.starts_with("the serial in the path"));
    let (status, line) = post("s", &"x".repeat(init::event::EVENT_LIMIT + 1));
    assert_eq!(
        (status.as_str(), line.as_str()),
        ("HTTP/1.1 413 Payload Too Large", "an event has at most 16384 bytes\n")
    );
    assert_eq!(server.get(&[], "/v1/devices").text(), "{\"devices\":[]}\n");
}

#[test]
fn a_signal_ends_it_when_idle_and_cuts_what_hangs() {
    for signal in ["-INT", "-TERM"] {
        let mut server = Server::start();
        server.put("f", b"f");
        // A client that keeps its connection open without a request.
        let _idle = TcpStream::connect(server.address).unwrap();
        assert_eq!(server.get(&[], "/f").text(), "f");
        server.signal(signal);
        assert!(server.exit().success());
    }
    let mut server = Server::start();
    fs::File::create(server.root.path().join("f")).unwrap().set_len(1 << 30).unwrap();
    let mut stuck = TcpStream::connect(server.address).unwrap();
    stuck.write_all(b"GET /f HTTP/1.0\r\n\r\n").unwrap();
    stuck.read_exact(&mut [0; 1000]).unwrap();
    server.signal("-TERM");
    assert!(server.exit().success());
    assert!(server.wait_for_log("are cut").contains("WARN"));
}

#[test]
fn it_says_why_it_cannot_start() {
    let server = Server::start();
    let serve = |root: &Path, listen: &str| {
        let output = Command::new(env!("CARGO_BIN_EXE_http-boot"))
            .arg("serve")
            .arg("--root")
            .arg(root)
            .args(["--listen", listen])
            .output();
        let output = output.unwrap();
        assert_eq!(output.status.code(), Some(1));
        let text = String::from_utf8(output.stderr).unwrap();
        assert_eq!(text.lines().count(), 1, "{text}");
        text
    };
    let root = server.root.path();
    assert!(serve(root, &server.address.to_string()).contains("is in use by another program"));
    assert!(serve(&root.join("none"), "127.0.0.1:0").contains("does not exist: make it"));
    server.put("file", b"");
    assert!(serve(&root.join("file"), "127.0.0.1:0").contains("is not a folder"));
    assert!(serve(root, "192.0.2.1:0").contains("is not an address of this machine"));
}

#[test]
fn a_pi_gets_its_own_plan_else_the_default_one() {
    let server = Server::start();
    assert!(server.get(&[], "/v1/boot/10000000abcdef01").status.contains("404"));
    server.put("plans/default.json", b"default");
    server.put("plans/10000000abcdef01.json", b"own");
    server.put("plans/default.json.minisig", b"signature");
    assert_eq!(server.get(&[], "/v1/boot/10000000abcdef01").text(), "own");
    let signature = server.get(&[], "/v1/boot/10000000abcdef01/minisig");
    assert!(signature.status.contains("404"), "that of another plan is not its own: {}", signature.status);
    let other = server.get(&[], "/v1/boot/2");
    assert_eq!((other.text().as_str(), other.header("content-type")), ("default", Some("application/json")));
    assert_eq!(server.get(&[], "/v1/boot/2/minisig").text(), "signature");
    for bad in ["/v1/boot/..%2f..%2fetc", "/v1/boot/a.b", "/v1/boot/%00"] {
        assert!(server.get(&[], bad).status.contains("400"), "{bad}");
    }
    assert!(server.get(&["-X", "POST"], "/v1/boot/2").status.contains("405"));
}
