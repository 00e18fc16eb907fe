//! Pages that are kept up to date.

use super::*;

#[test]
fn the_page_is_updated_live() {
    let server = site();
    let anna = server.logged_in("anna");
    let stream = |path: &str| {
        let output = std::process::Command::new("curl")
            .args(["--silent", "--no-buffer", "--max-time", "3", "--cookie", anna.jar.to_str().unwrap()])
            .arg(server.url(path))
            .output();
        String::from_utf8(output.unwrap().stdout).unwrap()
    };
    let (list, device) = std::thread::scope(|scope| {
        let list = scope.spawn(|| stream("/ui/live?q=&state="));
        let path = format!("{}/live", device_page());
        let device = scope.spawn(move || stream(&path));
        // The two hear of everything from their beginning on: wait for that.
        let bearer = format!("Authorization: Bearer {}", server.folders.token("ci", "view"));
        while !server.curl(&["--header", &bearer], "/metrics").body.contains("http_boot_live_pages 2") {}
        server.event(PI, &event("boot-a", 2, "fetch", "failed"));
        server.event("another", &event("boot-x", 1, "network", "waiting"));
        (list.join().unwrap(), device.join().unwrap())
    });
    let changes = |text: &str| -> Vec<Value> {
        let lines = text.lines().filter_map(|line| line.strip_prefix("data: "));
        lines.map(|line| serde_json::from_str(line).unwrap()).collect()
    };
    let (list, device) = (changes(&list), changes(&device));
    assert_eq!(list[0]["id"], "devices");
    assert!(list.iter().skip(1).any(|c| c["html"].as_str().unwrap().contains("failed")), "{list:?}");
    assert!(list.iter().any(|c| c["html"].as_str().unwrap().contains("another")), "{list:?}");
    let ids: Vec<_> = device.iter().map(|c| c["id"].as_str().unwrap()).collect();
    assert_eq!(ids[..4], ["state", "orders", "log", "timeline"]);
    assert!(device.iter().any(|c| c["into"] == "log" && c["html"].as_str().unwrap().contains("failed")));
}

#[test]
fn a_live_page_does_not_hold_up_the_stop() {
    let mut server = site();
    let jar = server.logged_in("anna").jar;
    let mut page = std::process::Command::new("curl")
        .args(["--silent", "--no-buffer", "--max-time", "60", "--cookie", jar.to_str().unwrap()])
        .arg(server.url("/ui/live"))
        .stdout(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    let mut first = [0; 5];
    std::io::Read::read_exact(page.stdout.as_mut().unwrap(), &mut first).unwrap();
    assert_eq!(&first, b"data:");
    let log = server.stop();
    assert!(log.contains(" stopped") && !log.contains("are cut"), "{log}");
    assert!(page.wait().unwrap().success(), "it ends as an answer ends");
}

#[test]
fn open_pages_of_one_address_keep_no_other_out() {
    use std::io::{Read, Write};
    let server = site();
    let browser = server.logged_in("vera");
    let jar = std::fs::read_to_string(&browser.jar).unwrap();
    let cookie = jar.lines().find_map(|line| {
        let fields: Vec<_> = line.split('\t').collect();
        (fields.len() == 7).then(|| format!("{}={}", fields[5], fields[6]))
    });
    let request = format!("GET /ui/live HTTP/1.1\r\nHost: x\r\nCookie: {}\r\n\r\n", cookie.unwrap());
    let open = || {
        let mut stream = std::net::TcpStream::connect(server.address).unwrap();
        stream.write_all(request.as_bytes()).unwrap();
        let mut start = [0; 12];
        stream.read_exact(&mut start).unwrap();
        assert_eq!(&start, b"HTTP/1.1 200");
        stream
    };
    // As many as there may be, and some.
    let mut pages: Vec<_> = (0..140).map(|_| open()).collect();
    let read = std::process::Command::new("curl")
        .args(["--silent", "--include", "--no-buffer", "--max-time", "2", "--interface", "127.0.0.9"])
        .args(["--cookie", browser.jar.to_str().unwrap(), &server.url("/ui/live")])
        .output();
    let read = String::from_utf8(read.unwrap().stdout).unwrap();
    assert!(read.starts_with("HTTP/1.1 200") && read.contains("data: "), "{read}");
    // The first ones had to go, by a whole answer's end: browsers open them again.
    let mut rest = String::new();
    pages[0].read_to_string(&mut rest).unwrap();
    assert!(rest.ends_with("0\r\n\r\n"), "{rest}");
}
