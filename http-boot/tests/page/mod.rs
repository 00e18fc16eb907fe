//! A running `http-boot serve --state` on a free port, and curl as its browser.
#![allow(dead_code, reason = "each test program uses its own part")]

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::Mutex;
use std::sync::mpsc::{Receiver, channel};
use std::thread;

use serde_json::Value;
use tempfile::TempDir;

pub(crate) const PASSWORD: &str = "correct horse battery";

/// The folders of a server, which outlive it.
pub(crate) struct Folders {
    pub(crate) all: TempDir,
}

pub(crate) struct Server {
    pub(crate) child: Child,
    pub(crate) address: SocketAddr,
    pub(crate) folders: Folders,
    pub(crate) first_log: Vec<String>,
    log: Mutex<Receiver<String>>,
}

impl Folders {
    pub(crate) fn new() -> Self {
        let all = TempDir::new().unwrap();
        fs::create_dir(all.path().join("root")).unwrap();
        Self { all }
    }

    pub(crate) fn root(&self) -> PathBuf {
        self.all.path().join("root")
    }

    pub(crate) fn state(&self) -> PathBuf {
        self.all.path().join("state")
    }

    /// Runs `http-boot ARGUMENTS --state …` with a line on its standard input.
    pub(crate) fn command(&self, arguments: &[&str], input: &str) -> Output {
        let mut child = Command::new(env!("CARGO_BIN_EXE_http-boot"))
            .args(arguments)
            .arg("--state")
            .arg(self.state())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let _may_not_read = child.stdin.take().unwrap().write_all(input.as_bytes());
        child.wait_with_output().unwrap()
    }

    pub(crate) fn add(&self, name: &str, role: &str) {
        let output = self.command(&["user", "add", name, "--role", role], &format!("{PASSWORD}\n"));
        assert!(output.status.success(), "{output:?}");
    }

    pub(crate) fn token(&self, name: &str, role: &str) -> String {
        let output = self.command(&["token", "add", name, "--role", role], "");
        assert!(output.status.success(), "{output:?}");
        String::from_utf8(output.stdout).unwrap().trim().to_owned()
    }

    /// A signed image at this path below the root.
    pub(crate) fn image(&self, path: &str) {
        let file = self.root().join(path);
        fs::create_dir_all(file.parent().unwrap()).unwrap();
        fs::write(&file, vec![7; 70_000]).unwrap();
        let json = serde_json::json!({
            "format": 1, "name": "debian", "version": "13.2", "architecture": "arm64",
            "kernel_releases": ["6.12.1"], "size": 70_000, "chunk_size": 65536,
            "blake3": ["00".repeat(32), "11".repeat(32)], "serial": 20261128,
        });
        fs::write(file.with_extension("json"), json.to_string()).unwrap();
        let minisig = sign(json.to_string().as_bytes());
        fs::write(file.with_extension("json.minisig"), minisig).unwrap();
    }

    pub(crate) fn serve(self, more: &[&str]) -> Server {
        Server::start(self, true, more)
    }
}

/// A minisign signature by a key of its own.
pub(crate) fn sign(bytes: &[u8]) -> String {
    let pair = minisign::KeyPair::generate_unencrypted_keypair().unwrap();
    minisign::sign(None, &pair.sk, bytes, None, None).unwrap().to_string()
}

impl Server {
    pub(crate) fn start(folders: Folders, with_state: bool, more: &[&str]) -> Self {
        let mut command = Command::new(env!("CARGO_BIN_EXE_http-boot"));
        command.args(["serve", "--listen", "127.0.0.1:0", "--root"]).arg(folders.root());
        if with_state {
            command.arg("--state").arg(folders.state());
        }
        let mut child = command.args(more).env("NO_COLOR", "1").stderr(Stdio::piped()).spawn().unwrap();
        let (sender, log) = channel();
        let stderr = child.stderr.take().unwrap();
        thread::spawn(move || {
            BufReader::new(stderr).lines().map_while(Result::ok).for_each(|line| drop(sender.send(line)))
        });
        let mut first_log = Vec::new();
        let address = log.iter().find_map(|line| {
            let after = line.split("listening on http://").nth(1);
            let address = after.and_then(|rest| rest.split(' ').next()?.parse().ok());
            first_log.push(line);
            address
        });
        let address = address.expect("the server says where it listens");
        Self { child, address, folders, first_log, log: Mutex::new(log) }
    }

    pub(crate) fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    /// SIGTERM; gives what it logged until its end.
    pub(crate) fn stop(&mut self) -> String {
        assert!(
            Command::new("kill").args(["-TERM", &self.child.id().to_string()]).status().unwrap().success()
        );
        assert!(self.child.wait().unwrap().success());
        self.log.lock().unwrap().iter().collect::<Vec<_>>().join("\n")
    }

    /// kill -9; gives the folders back.
    pub(crate) fn kill(mut self) -> Folders {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
        std::mem::replace(&mut self.folders, Folders::new())
    }

    pub(crate) fn curl(&self, arguments: &[&str], path: &str) -> Answer {
        let output = Command::new("curl")
            .args(["--silent", "--show-error", "--include", "--max-time", "60"])
            .args(arguments)
            .arg(self.url(path))
            .output()
            .expect("curl runs (Debian package: curl)");
        assert!(output.status.success(), "curl {path}: {}", String::from_utf8_lossy(&output.stderr));
        Answer::parse(&output.stdout)
    }

    pub(crate) fn get(&self, path: &str) -> Answer {
        self.curl(&[], path)
    }

    /// Posts a boot event.
    pub(crate) fn event(&self, serial: &str, event: &Value) {
        let mut whole = serde_json::json!({"format": 1, "uptime_ms": 1000});
        whole.as_object_mut().unwrap().extend(event.as_object().unwrap().clone());
        let answer = self.curl(&["--data-binary", &whole.to_string()], &format!("/v1/boot/{serial}/events"));
        assert_eq!(answer.status, 204, "{}", answer.body);
    }

    pub(crate) fn browser(&self) -> Browser<'_> {
        Browser { server: self, jar: self.folders.all.path().join(format!("jar-{}", rand())) }
    }

    pub(crate) fn logged_in(&self, name: &str) -> Browser<'_> {
        let browser = self.browser();
        let answer = browser.log_in(name, PASSWORD);
        assert_eq!(answer.status, 303, "{}", answer.body);
        browser
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _gone = self.child.kill();
        let _gone = self.child.wait();
    }
}

fn rand() -> u64 {
    use std::sync::atomic::{AtomicU64, Ordering};
    static NEXT: AtomicU64 = AtomicU64::new(0);
    NEXT.fetch_add(1, Ordering::Relaxed)
}

/// curl with a cookie jar.
pub(crate) struct Browser<'a> {
    pub(crate) server: &'a Server,
    pub(crate) jar: PathBuf,
}

impl Browser<'_> {
    pub(crate) fn curl(&self, arguments: &[&str], path: &str) -> Answer {
        let jar = self.jar.to_str().unwrap();
        self.server.curl(&[&["--cookie", jar, "--cookie-jar", jar], arguments].concat(), path)
    }

    pub(crate) fn get(&self, path: &str) -> Answer {
        self.curl(&[], path)
    }

    /// Posts a form with the secret of the page at `page`.
    pub(crate) fn send(&self, page: &str, fields: &[(&str, &str)], path: &str) -> Answer {
        let csrf = self.get(page).csrf();
        self.send_with(&csrf, fields, path)
    }

    pub(crate) fn send_with(&self, csrf: &str, fields: &[(&str, &str)], path: &str) -> Answer {
        let mut arguments = vec!["--data-urlencode".to_owned(), format!("csrf={csrf}")];
        for (name, value) in fields {
            arguments.extend(["--data-urlencode".to_owned(), format!("{name}={value}")]);
        }
        self.curl(&arguments.iter().map(String::as_str).collect::<Vec<_>>(), path)
    }

    pub(crate) fn log_in(&self, name: &str, password: &str) -> Answer {
        self.send("/ui/login", &[("name", name), ("password", password), ("next", "/ui/images")], "/ui/login")
    }
}

pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) headers: String,
    pub(crate) body: String,
}

impl Answer {
    fn parse(bytes: &[u8]) -> Self {
        let text = String::from_utf8(bytes.to_vec()).unwrap();
        let (head, body) = text.split_once("\r\n\r\n").expect("a head that ends");
        let (status, headers) = head.split_once("\r\n").unwrap();
        Self {
            status: status.split(' ').nth(1).unwrap().parse().unwrap(),
            headers: headers.to_owned(),
            body: body.into(),
        }
    }

    /// All headers of this name.
    pub(crate) fn headers(&self, name: &str) -> Vec<&str> {
        let lines = self.headers.lines().filter_map(|line| line.split_once(": "));
        lines.filter(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value).collect()
    }

    pub(crate) fn header(&self, name: &str) -> &str {
        self.headers(name).first().copied().unwrap_or_else(|| panic!("no {name} in {}", self.headers))
    }

    pub(crate) fn csrf(&self) -> String {
        let at = self
            .body
            .split("name=\"csrf\" value=\"")
            .nth(1)
            .unwrap_or_else(|| panic!("no form in {}", self.body));
        at.split('"').next().unwrap().to_owned()
    }

    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|error| panic!("{error}: {}", self.body))
    }
}

/// Where screenshots go.
pub(crate) fn target() -> PathBuf {
    Path::new(env!("CARGO_TARGET_TMPDIR")).parent().unwrap().to_owned()
}
