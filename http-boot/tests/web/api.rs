//! What programs see: the API and the metrics.

use super::*;

#[test]
fn the_api_tells_what_the_page_shows() {
    let server = site();
    let bearer = format!("Authorization: Bearer {}", server.folders.token("ci", "operate"));
    let ask =
        |arguments: &[&str], path: &str| server.curl(&[&["--header", &bearer], arguments].concat(), path);
    let get = |path: &str| ask(&[], path).json();
    for sequence in 2..5 {
        server.event(
            PI,
            &event("boot-a", sequence, "fetch", ["started", "progress", "failed"][sequence as usize - 2]),
        );
    }
    assert_eq!(get("/v1/devices")["devices"][0]["step"], "fetch");
    assert_eq!(get(&format!("/v1/devices/{PI}"))["device"]["state"], "failed");
    assert_eq!(get("/v1/images")["images"][0]["path"], "os/debian.squashfs");
    // Recorded behind the answer: asked for until it is there.
    let boots = (0..600).map(|_| get("/v1/boots")).find(|boots| {
        std::thread::sleep(std::time::Duration::from_millis(50));
        boots["boots"][0]["failures"] == 1
    });
    let id = boots.expect("the boot is recorded")["boots"][0]["id"].clone();
    let boot = get(&format!("/v1/boots/{id}"));
    assert_eq!(boot["events"].as_array().unwrap().len(), 4);
    assert_eq!((&boot["steps"][1]["step"], &boot["steps"][1]["ended_ms"]), (&json!("fetch"), &json!(2000)));

    let assign = json!({"serial": PI, "order": "assign", "image": "os/debian.squashfs"}).to_string();
    assert_eq!(ask(&["--data", &assign], "/v1/orders").json()["standing"]["image"], "os/debian.squashfs");
    assert_eq!(get("/v1/orders")["orders"][0]["standing"]["who"], "token ci");
    let long = "x".repeat(70_000);
    for (arguments, path, status) in [
        (vec!["--data", "{"], "/v1/orders", 400),
        (vec!["--data", r#"{"serial":"a b","order":"clear"}"#], "/v1/orders", 400),
        (vec!["--data", r#"{"serial":"a","order":"format"}"#], "/v1/orders", 400),
        (vec!["--data", r#"{"serial":"a","order":"assign","image":"x"}"#], "/v1/orders", 409),
        (vec!["--request", "DELETE"], "/v1/orders", 405),
        (vec![], "/v1/devices/none", 404),
        (vec![], "/v1/devices/a%20b", 400),
        (vec![], "/v1/devices/%FF", 400),
        (vec!["--data-binary", &long], "/v1/orders", 413),
        (vec![], "/v1/boots/x", 400),
        (vec![], "/v1/boots/9223372036854775807", 404),
        (vec![], "/v1/boots?limit=0", 400),
        (vec![], "/v1/boots?serial=", 400),
        (vec![], "/v1/audit?serial=x", 400),
    ] {
        let answer = ask(&arguments, path);
        assert_eq!(
            (answer.status, answer.json()["status"].as_u64()),
            (status, Some(status.into())),
            "{path}"
        );
        assert_eq!(answer.header("content-type"), "application/problem+json", "{path}");
    }
    let wrong = server.curl(&["--header", "Authorization: Bearer wrong"], "/v1/devices");
    assert_eq!(wrong.status, 401);
    server.folders.command(&["token", "remove", "ci"], "");
    assert_eq!(ask(&[], "/v1/devices").status, 401);
}

#[test]
fn programs_see_bootloaders_and_findings() {
    let server = site();
    let bearer = format!("Authorization: Bearer {}", server.folders.token("ci", "view"));
    let ask = |path: &str| server.curl(&["--header", &bearer], path);
    assert_eq!(ask("/v1/bootloaders").json(), json!({"bootloaders": []}));
    let agents = ["rpiboot/1.0 (d03114; version:8ba17717 timestamp:1736000000)", "rpiboot/9"];
    for agent in agents {
        server.curl(&["--user-agent", agent], "/boot.sig");
    }
    // It is written a moment later.
    let all = loop {
        let all = ask("/v1/bootloaders").json();
        if all["bootloaders"].as_array().unwrap().len() == 2 {
            break all;
        }
    };
    let of = |agent: &str| {
        all["bootloaders"].as_array().unwrap().iter().find(|one| one["agent"] == agent).cloned()
    };
    let known = of(agents[0]).unwrap();
    assert_eq!(
        [&known["address"], &known["version"], &known["revision"], &known["board"], &known["built"]],
        ["127.0.0.1", "8ba17717", "d03114", "Pi 4B", "2025-01-04T14:13:20.000Z"]
    );
    assert!(known["first_seen"].is_string() && known["last_seen"].is_string(), "{known}");
    // The device that reported from there.
    assert_eq!(known["serial"], "abcdef01");
    assert_eq!(of(agents[1]).unwrap().get("board"), None);
    assert_eq!(ask("/v1/bootloaders?limit=1").json()["bootloaders"].as_array().unwrap().len(), 1);
    assert_eq!(ask("/v1/bootloaders?limit=0").status, 400);
    assert_eq!(ask("/v1/bootloaders?before=1").status, 400);
    assert_eq!(ask("/v1/findings").json(), json!({"findings": []}));
}

#[test]
fn bootloaders_are_remembered() {
    let server = site();
    let agent = "rpiboot/1.0 (d03114; version:8ba17717 timestamp:1736000000)";
    server.curl(&["--user-agent", agent], "/boot.sig");
    server.curl(&["--user-agent", "curl"], "/boot.sig");
    let anna = server.logged_in("anna");
    // Recorded behind the answer: asked for until it is there.
    let page = (0..600).map(|_| anna.get(&device_page()).body).find(|page| {
        std::thread::sleep(std::time::Duration::from_millis(50));
        page.contains(agent)
    });
    assert_eq!(page.expect("it is on the page").matches("Bootloader that asked").count(), 1);
}

#[test]
fn metrics_are_counted_and_closed() {
    let server = site();
    let bearer = format!("Authorization: Bearer {}", server.folders.token("prometheus", "view"));
    server.browser().log_in("anna", "a wrong password");
    let _anna = server.logged_in("anna");
    let text = server.curl(&["--header", &bearer], "/metrics").body;
    for line in [
        "http_boot_devices{state=\"done\"} 1",
        "http_boot_devices{state=\"failed\"} 0",
        "http_boot_events_total 1",
        "http_boot_events_dropped_total 0",
        "http_boot_requests_total{status=\"204\"} 1",
        "http_boot_logins_failed_total 1",
        "http_boot_sessions 1",
    ] {
        assert!(text.lines().any(|l| l == line), "{line} in {text}");
    }
    let sent = text.lines().find_map(|line| line.strip_prefix("http_boot_sent_bytes_total ")).unwrap();
    assert!(sent.parse::<u64>().unwrap() > 0);
    let open = Folders::new().serve(&["--metrics-open"]);
    assert_eq!((open.get("/metrics").status, open.get("/v1/devices").status), (200, 401));
}
