//! The HTTP client against servers that send it on, show it pages, change their files, and proxies.
#![cfg(feature = "pid1")]
#![allow(
    missing_docs,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    reason = "a test may panic"
)]

mod peers;

use init::cmdline::CommandLine;
use init::pid1::dns::resolver::Resolver;
use init::pid1::http;
use init::pid1::tls::{Authorities, Dates};
use init::transport::Transport;
use peers::{Server, answer};
use reqwest::blocking::Client;

fn client(words: &str) -> Client {
    let transport = Transport::parse(&CommandLine::parse(words));
    let nobody = Resolver::new("/nonexistent/resolv.conf".into(), 53);
    http::client_with(&transport, Dates::Strict, &Authorities::default(), nobody).unwrap()
}

fn get(client: &Client, url: &url::Url) -> Result<String, String> {
    let bytes = http::small_file(client, url, 1000).map_err(|error| {
        let source: &(dyn std::error::Error + 'static) = error.as_ref();
        http::causes(source)
    })?;
    Ok(String::from_utf8(bytes).unwrap())
}

/// Sends on `n` times: `/3` to `/2` and so on, and `/0` is there.
fn circle() -> Server {
    Server::start(|request| {
        let path = request.line.split(' ').nth(1).unwrap();
        match path.trim_start_matches('/').parse::<u32>() {
            Ok(0) => answer("200 OK", &[], b"arrived"),
            Ok(n) => answer("302 Found", &[&format!("Location: /{}", n - 1)], b""),
            Err(_) => answer("404 Not Found", &[], b""),
        }
    })
}

#[test]
fn redirects_have_an_end() {
    let server = circle();
    assert_eq!(get(&client(""), &server.url("5")), Ok("arrived".into()));
    assert_eq!(server.count(), 6);
    let error = get(&client(""), &server.url("6")).unwrap_err();
    assert!(error.contains("send us on more than 5 times"), "{error}");
    assert_eq!(server.count(), 12);
}

#[test]
fn a_captive_portal_is_named_with_its_host() {
    let portal =
        Server::at("127.0.0.2:0", |_| answer("200 OK", &["Content-Type: text/html"], b"<html>log in</html>"));
    let to = format!("Location: http://{}/login", portal.address);
    let network = Server::start(move |_| answer("302 Found", &[&to], b""));
    let error = get(&client(""), &network.url("x.json")).unwrap_err();
    assert!(error.contains("127.0.0.2") && error.contains("captive portal"), "{error}");
    let range =
        http::range(&client(""), &network.url("x.squashfs"), 0..10, 20, None).unwrap_err().to_string();
    assert!(range.contains("127.0.0.2") && range.contains("captive portal"), "{range}");
    // RFC 6585.
    let honest = Server::start(|_| answer("511 Network Authentication Required", &[], b""));
    let error = get(&client(""), &honest.url("x.json")).unwrap_err();
    assert!(error.contains("511") && error.contains("captive portal"), "{error}");
}

/// A proxy that answers by itself: what it is asked shows that it was.
fn proxy() -> Server {
    Server::start(|request| {
        let connect = request.line.starts_with("CONNECT ");
        if connect { answer("403 Forbidden", &[], b"") } else { answer("200 OK", &[], b"by proxy") }
    })
}

#[test]
fn proxies_are_asked_for_what_is_theirs() {
    let proxy = proxy();
    let site = Server::start(|_| answer("200 OK", &[], b"direct"));
    let words = format!("http_proxy=http://me:secret@{}", proxy.address);
    let far = url::Url::parse("http://site.example/x").unwrap();
    assert_eq!(get(&client(&words), &far), Ok("by proxy".into()));
    let asked = proxy.asked.lock().unwrap()[0].clone();
    assert_eq!(asked.line, "GET http://site.example/x HTTP/1.1");
    assert_eq!(asked.header("proxy-authorization"), Some("basic bwu6c2vjcmv0"));
    // A network and a domain that are asked directly.
    let direct = format!("{words} no_proxy=127.0.0.0/8,.example");
    assert_eq!(get(&client(&direct), &site.url("x")), Ok("direct".into()));
    assert!(get(&client(&direct), &far).unwrap_err().contains("no name server is known"));
    // https: goes by CONNECT, and only where a word says so.
    let secure = url::Url::parse("https://site.example/x").unwrap();
    assert!(get(&client(&words), &secure).unwrap_err().contains("no name server is known"));
    let words = format!("all_proxy={}", proxy.address);
    assert!(get(&client(&words), &secure).is_err());
    assert_eq!(proxy.asked.lock().unwrap().last().unwrap().line, "CONNECT site.example:443 HTTP/1.1");
}

#[test]
fn a_proxy_that_wants_a_login_is_named() {
    let proxy = Server::start(|_| answer("407 Proxy Authentication Required", &[], b""));
    let error =
        get(&client(&format!("http_proxy={}", proxy.address)), &"http://a.example/x".parse().unwrap());
    let error = error.unwrap_err();
    assert!(error.contains("the proxy says 407"), "{error}");
}

/// The kernel puts such words into PID 1's environment; only its command line counts.
#[test]
fn the_environment_says_nothing() {
    let proxy = proxy();
    let site = Server::start(|_| answer("200 OK", &[], b"direct"));
    let through = format!("http://{}", proxy.address);
    let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_init"));
    for name in ["http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"] {
        command.env(name, &through);
    }
    let output = command.arg("get").arg(site.url("x").as_str()).output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success() && said.ends_with("direct"), "{output:?}");
    assert_eq!(proxy.count(), 0);
}

#[test]
fn a_file_that_changes_in_mid_flight_is_said_so() {
    // If-Range, RFC 9110 section 13.1.5: another state of the file gives all of it.
    let server = Server::start(|request| match request.header("if-range") {
        Some("\"new\"") | None => {
            answer("206 Partial Content", &["Content-Range: bytes 5-9/10", "ETag: \"new\""], b"56789")
        }
        Some(_) => answer("200 OK", &["ETag: \"new\""], b"0123456789"),
    });
    let (url, client) = (server.url("x.squashfs"), client(""));
    let first = http::range(&client, &url, 5..10, 10, None).unwrap();
    assert_eq!(http::validator(&first).as_deref(), Some("\"new\""));
    let changed = http::range(&client, &url, 5..10, 10, Some("\"old\"")).unwrap_err();
    assert!(matches!(changed, http::RangeError::Changed(..)), "{changed}");
    let text = changed.to_string();
    assert!(text.contains("has changed on the server") && text.contains("\"old\""), "{text}");
    assert_eq!(server.asked.lock().unwrap()[1].header("if-range"), Some("\"old\""));
}

#[test]
fn only_what_is_strong_tells_states_apart() {
    let date = "Sat, 28 Nov 2026 08:00:00 GMT";
    let earlier = "Sat, 28 Nov 2026 07:00:00 GMT";
    for (headers, validator) in [
        (vec![format!("ETag: \"a\""), format!("Last-Modified: {earlier}")], Some("\"a\"")),
        (
            vec!["ETag: W/\"a\"".into(), format!("Last-Modified: {earlier}"), format!("Date: {date}")],
            Some(earlier),
        ),
        // Written in this second: it may be written again in it.
        (vec![format!("Last-Modified: {date}"), format!("Date: {date}")], None),
        (vec![format!("Last-Modified: {earlier}")], None),
        (vec![], None),
    ] {
        let server = Server::start(move |_| {
            let headers: Vec<&str> = headers.iter().map(String::as_str).collect();
            answer("200 OK", &headers, b"x")
        });
        let response = client("").get(server.url("x")).send().unwrap();
        assert_eq!(http::validator(&response).as_deref(), validator);
    }
}
