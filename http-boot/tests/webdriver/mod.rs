//! A small WebDriver client (W3C WebDriver, level 2) for headless Chromium: what the browser test needs, and no more.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use base64::Engine;
use serde_json::{Value, json};

/// How long a test waits for what has to come; a Pi that boots in software emulation takes its time.
const PATIENCE: Duration = Duration::from_secs(300);

/// A browser with one window.
pub(crate) struct Driver {
    chromedriver: Child,
    port: u16,
    session: String,
}

impl Driver {
    pub(crate) fn start() -> Self {
        let mut chromedriver = Command::new("chromedriver")
            .arg("--port=0")
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("chromedriver runs (Debian packages: chromium, chromium-driver)");
        let mut said = BufReader::new(chromedriver.stdout.take().unwrap()).lines().map_while(Result::ok);
        let port = said
            .find_map(|line| line.split("successfully on port ").nth(1)?.trim_end_matches('.').parse().ok())
            .expect("chromedriver says on which port it listens");
        // It goes on to write there: keep the pipe open and empty.
        std::thread::spawn(move || said.for_each(drop));
        let mut driver = Self { chromedriver, port, session: String::new() };
        let arguments = [
            "--headless=new",
            // Chromium's own sandbox needs rights that root in a container does not have. It sees this test's pages alone.
            "--no-sandbox",
            "--disable-dev-shm-usage",
            "--disable-gpu",
            "--hide-scrollbars",
            "--window-size=1280,900",
        ];
        let capabilities = json!({"capabilities": {"alwaysMatch": {
            "browserName": "chrome",
            "goog:chromeOptions": {"args": arguments},
            "goog:loggingPrefs": {"browser": "ALL"},
        }}});
        let session = driver.ask("POST", "/session", &capabilities);
        session["sessionId"].as_str().unwrap().clone_into(&mut driver.session);
        driver
    }

    fn ask(&self, method: &str, path: &str, body: &Value) -> Value {
        let (head, body) = self.exchange(method, path, body).expect("chromedriver answers");
        let answer: Value = serde_json::from_slice(&body).expect("chromedriver answers with JSON");
        assert!(head.contains(" 200 "), "{method} {path}: {answer}");
        answer["value"].clone()
    }

    fn exchange(&self, method: &str, path: &str, body: &Value) -> std::io::Result<(String, Vec<u8>)> {
        let body = if method == "POST" { body.to_string() } else { String::new() };
        let mut stream = TcpStream::connect(("127.0.0.1", self.port))?;
        stream.set_read_timeout(Some(PATIENCE))?;
        write!(
            stream,
            "{method} {path} HTTP/1.1\r\nHost: 127.0.0.1:{}\r\nContent-Type: application/json\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}",
            self.port,
            body.len()
        )?;
        read_answer(&mut stream)
    }

    fn post(&self, path: &str, body: &Value) -> Value {
        self.ask("POST", &format!("/session/{}{path}", self.session), body)
    }

    pub(crate) fn open(&self, url: &str) {
        self.post("/url", &json!({ "url": url }));
    }

    /// Runs the body of a function in the page.
    pub(crate) fn script(&self, body: &str) -> Value {
        self.post("/execute/sync", &json!({"script": body, "args": []}))
    }

    /// Waits until a script's result is true.
    pub(crate) fn wait(&self, what: &str, condition: &str) {
        let end = Instant::now() + PATIENCE;
        while self.script(&format!("return Boolean({condition})")) != Value::Bool(true) {
            assert!(Instant::now() < end, "{what}: {}", self.script("return document.body.innerText"));
            // WebDriver has no way to be told.
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    fn element(&self, css: &str) -> String {
        let found = self.post("/element", &json!({"using": "css selector", "value": css}));
        found.as_object().unwrap().values().next().unwrap().as_str().unwrap().to_owned()
    }

    pub(crate) fn write(&self, css: &str, text: &str) {
        self.post(&format!("/element/{}/value", self.element(css)), &json!({ "text": text }));
    }

    pub(crate) fn click(&self, css: &str) {
        self.post(&format!("/element/{}/click", self.element(css)), &json!({}));
    }

    /// A command of the Chrome DevTools protocol.
    fn devtools(&self, command: &str, parameters: &Value) {
        self.post("/goog/cdp/execute", &json!({"cmd": command, "params": parameters}));
    }

    pub(crate) fn scheme(&self, scheme: &str) {
        let features = json!([{"name": "prefers-color-scheme", "value": scheme}, {"name": "prefers-reduced-motion", "value": "reduce"}]);
        self.devtools("Emulation.setEmulatedMedia", &json!({ "features": features }));
    }

    pub(crate) fn size(&self, width: u32, height: u32, mobile: bool) {
        let metrics = json!({"width": width, "height": height, "deviceScaleFactor": 1, "mobile": mobile});
        self.devtools("Emulation.setDeviceMetricsOverride", &metrics);
    }

    /// A PNG of what is seen.
    pub(crate) fn screenshot(&self) -> Vec<u8> {
        let png = self.ask("GET", &format!("/session/{}/screenshot", self.session), &Value::Null);
        base64::engine::general_purpose::STANDARD.decode(png.as_str().unwrap()).unwrap()
    }

    /// What the browser complained of since the last time: scripts that failed, what the policy blocked.
    pub(crate) fn complaints(&self) -> Vec<String> {
        let log = self.post("/se/log", &json!({"type": "browser"}));
        log.as_array().unwrap().iter().map(|entry| entry["message"].to_string()).collect()
    }
}

impl Drop for Driver {
    fn drop(&mut self) {
        // Also after a failure, when it is of no use to fail once more: Chromium itself ends with its session.
        let _gone = self.exchange("DELETE", &format!("/session/{}", self.session), &Value::Null);
        let _gone = self.chromedriver.kill();
        let _gone = self.chromedriver.wait();
    }
}

fn read_answer(stream: &mut TcpStream) -> std::io::Result<(String, Vec<u8>)> {
    let mut reader = BufReader::new(stream);
    let (mut head, mut length) = (String::new(), 0);
    loop {
        let mut line = String::new();
        reader.read_line(&mut line)?;
        if line.trim().is_empty() {
            break;
        }
        if let Some((name, value)) = line.split_once(':')
            && name.eq_ignore_ascii_case("content-length")
        {
            length = value.trim().parse().unwrap();
        }
        head.push_str(&line);
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body)?;
    Ok((head, body))
}
