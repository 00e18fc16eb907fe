//! GNU wget, beside curl.

use super::*;

/// GNU's, which asks with HTTP/1.1 and keeps connections.
fn wget(server: &Server, arguments: &[&str], paths: &[&str]) -> Output {
    let mut wget = Command::new("wget");
    wget.args(["--no-verbose", "--tries=1", "--timeout=60"]).args(arguments);
    wget.args(paths.iter().map(|path| server.url(path))).current_dir(server.root.path());
    wget.output().expect("wget runs (Debian package: wget)")
}

#[test]
fn wget_fetches_and_goes_on_where_it_was() {
    let server = Server::start();
    let content = noise(3_000_001);
    server.put("pi/boot.img", &content);
    server.put("pi/boot.sig", b"signature");
    let fetched = wget(&server, &["--directory-prefix=.got"], &["/pi/boot.sig", "/pi/boot.img"]);
    assert!(fetched.status.success(), "{fetched:?}");
    let got = |name: &str| fs::read(server.root.path().join(".got").join(name)).unwrap();
    assert!(got("boot.sig") == b"signature" && got("boot.img") == content);

    fs::write(server.root.path().join(".got/boot.img"), &content[..1_234_567]).unwrap();
    let resumed = wget(&server, &["--continue", "--directory-prefix=.got"], &["/pi/boot.img"]);
    assert!(resumed.status.success() && got("boot.img") == content, "{resumed:?}");
    assert!(server.wait_for_log("bytes=1234567-").contains(r#""status":206,"bytes":1765434"#));

    // What it has already is not sent again.
    let again = wget(&server, &["--timestamping", "--directory-prefix=.got"], &["/pi/boot.img"]);
    assert!(again.status.success(), "{again:?}");
    server.wait_for_log(r#""status":304"#);
    let missing = wget(&server, &["--output-document=-"], &["/pi/none"]);
    assert_eq!(missing.status.code(), Some(8), "the server's refusal: {missing:?}");
}

#[test]
fn wget_posts_an_event() {
    let server = Server::start();
    let event = r#"--post-data={"format":1,"boot_id":"b1","sequence":1,"uptime_ms":900,"step":"fetch","state":"done"}"#;
    let posted = wget(&server, &["--output-document=-", event], &["/v1/boot/10000000deadbeef/events"]);
    assert!(posted.status.success(), "{posted:?}");
    let shown = wget(&server, &["--output-document=-"], &["/v1/devices"]);
    assert!(String::from_utf8_lossy(&shown.stdout).contains("10000000deadbeef"), "{shown:?}");
}
