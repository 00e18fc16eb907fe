//! The page and the API of the built program, with curl as the browser.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, reason = "a test may panic")]

mod api;
mod live;
#[path = "../page/mod.rs"]
mod page;

use std::collections::BTreeMap;

use page::{Browser, Folders, PASSWORD, Server, sign};
use serde_json::{Value, json};

const PI: &str = "10000000abcdef01";

fn event(boot: &str, sequence: u64, step: &str, state: &str) -> Value {
    json!({"boot_id": boot, "sequence": sequence, "uptime_ms": sequence * 500, "step": step, "state": state})
}

/// A server with anna, who may operate, vera, who may view, a Pi and a signed image.
fn site() -> Server {
    let folders = Folders::new();
    folders.add("anna", "operate");
    folders.add("vera", "view");
    folders.image("os/debian.squashfs");
    let server = folders.serve(&[]);
    server.event(PI, &event("boot-a", 1, "network", "done"));
    server
}

fn device_page() -> String {
    format!("/ui/devices/{PI}")
}

fn order(browser: &Browser<'_>, fields: &[(&str, &str)]) -> u16 {
    browser.send(&device_page(), fields, &format!("{}/orders", device_page())).status
}

fn plan(server: &Server) -> Option<String> {
    let answer = server.get(&format!("/v1/boot/{PI}"));
    (answer.status == 200).then(|| answer.json()["parameters"].as_str().unwrap().to_owned())
}

#[test]
fn without_a_state_folder_the_page_says_how_to_turn_it_on() {
    let server = Server::start(Folders::new(), false, &[]);
    for path in ["/ui/", "/ui/login", "/ui/audit"] {
        let answer = server.get(path);
        assert!(answer.status == 503 && answer.body.contains("--state"), "{path}: {}", answer.body);
    }
    assert_eq!(server.get("/v1/devices").status, 200);
    assert!(server.get("/v1/orders").body.contains("--state"));
    assert_eq!(server.get("/metrics").status, 401);
}

#[test]
fn nothing_but_boot_files_and_the_boot_api_is_for_strangers() {
    let server = site();
    std::fs::write(server.folders.root().join("boot.img"), "image").unwrap();
    assert_eq!(server.get("/boot.img").body, "image");
    assert_eq!(server.get(&format!("/v1/boot/{PI}")).status, 404);
    for path in [
        "/v1/devices",
        "/v1/boots",
        "/v1/bootloaders",
        "/v1/findings",
        "/v1/images",
        "/v1/orders",
        "/v1/audit",
        "/v1/openapi.json",
        "/metrics",
    ] {
        let answer = server.get(path);
        assert_eq!((answer.status, answer.header("www-authenticate")), (401, "Bearer"), "{path}");
        assert_eq!(answer.json()["status"], 401);
    }
    assert_eq!(server.get(&format!("/v1/devices/{PI}/events")).status, 401);
    for path in ["/ui/", "/ui/live", &device_page(), "/ui/images", "/ui/audit"] {
        let answer = server.get(path);
        assert_eq!(answer.status, 303, "{path}");
        assert!(answer.header("location").starts_with("/ui/login?next="), "{path}");
    }
    let orders = format!("{}/orders", device_page());
    assert_eq!(server.curl(&["--data", "order=clear"], &orders).header("location"), "/ui/login");
}

#[test]
fn slash_leads_browsers_to_the_page_and_nobody_else() {
    let server = site();
    let browser = server.curl(&["--header", "Accept: text/html"], "/");
    assert_eq!((browser.status, browser.header("location")), (303, "/ui/"));
    assert_eq!(server.get("/").status, 404);
    assert_eq!(server.get("/ui").header("location"), "/ui/");
}

#[test]
fn one_logs_in_with_the_right_password_and_out_again() {
    let server = site();
    let browser = server.browser();
    let wrong = browser.log_in("anna", "correct horse");
    assert!(wrong.status == 401 && wrong.body.contains("is wrong"));
    assert_eq!(browser.log_in("nobody", PASSWORD).status, 401);
    let right = browser.log_in("ANNA", PASSWORD);
    assert_eq!((right.status, right.header("location")), (303, "/ui/images"));
    let cookie =
        right.headers("set-cookie").into_iter().find(|c| c.starts_with("http-boot-session=")).unwrap();
    for part in ["Path=/", "HttpOnly", "SameSite=Strict"] {
        assert!(cookie.contains(part), "{cookie}");
    }
    assert!(!cookie.contains("Secure"), "over HTTP a browser would not send it back: {cookie}");
    let list = browser.get("/ui/");
    assert!(list.status == 200 && list.body.contains(PI));
    assert_eq!(browser.get("/v1/devices").status, 200);
    assert_eq!(browser.send("/ui/", &[], "/ui/logout").status, 303);
    assert_eq!(browser.get("/ui/").status, 303);
    assert_eq!(browser.get("/v1/devices").status, 401);
}

#[test]
fn a_session_ends_with_its_person_and_password() {
    let server = site();
    let (anna, vera) = (server.logged_in("anna"), server.logged_in("vera"));
    let other = server.folders.command(&["user", "password", "anna"], "another password\n");
    assert!(other.status.success(), "{other:?}");
    assert!(server.folders.command(&["user", "remove", "vera"], "").status.success());
    assert_eq!((anna.get("/ui/").status, vera.get("/ui/").status), (303, 303));
    assert_eq!(anna.log_in("anna", PASSWORD).status, 401);
    assert_eq!(anna.log_in("anna", "another password").status, 303);
}

#[test]
fn forms_of_other_sites_are_refused() {
    let server = site();
    let anna = server.logged_in("anna");
    let orders = format!("{}/orders", device_page());
    let fields = [("order", "rescue_next")];
    assert_eq!(anna.send_with("", &fields, &orders).status, 403);
    assert_eq!(anna.send_with(&"0".repeat(64), &fields, &orders).status, 403);
    let vera = server.logged_in("vera");
    let foreign = vera.get("/ui/").csrf();
    assert_eq!(anna.send_with(&foreign, &fields, &orders).status, 403);
    let own = anna.get("/ui/").csrf();
    let data = format!("csrf={own}&order=rescue_next");
    let cross = anna.curl(&["--header", "Sec-Fetch-Site: cross-site", "--data", &data], &orders);
    assert_eq!(cross.status, 403);
    assert_eq!(plan(&server), None);
    assert_eq!(anna.curl(&["--header", "Sec-Fetch-Site: same-origin", "--data", &data], &orders).status, 303);
    assert_eq!(plan(&server).as_deref(), Some("lifeboat.rescue"));

    let stranger = server.browser();
    stranger.get("/ui/login");
    let fields = [("name", "anna"), ("password", PASSWORD)];
    assert_eq!(stranger.send_with("", &fields, "/ui/login").status, 403);
    let no_cookie =
        server.curl(&["--data", &format!("csrf={own}&name=anna&password={PASSWORD}")], "/ui/login");
    assert_eq!(no_cookie.status, 403);
    assert_eq!(anna.send_with("", &[], "/ui/logout").status, 403);
    let clear = json!({"serial": PI, "order": "clear"}).to_string();
    assert_eq!(anna.curl(&["--data", &clear], "/v1/orders").status, 403, "the API, by cookie alone");
    let header = format!("X-CSRF-Token: {own}");
    assert_eq!(anna.curl(&["--header", &header, "--data", &clear], "/v1/orders").status, 200);
}

#[test]
fn who_may_view_gives_no_orders() {
    let server = site();
    let vera = server.logged_in("vera");
    let page = vera.get(&device_page());
    assert!(page.status == 200 && !page.body.contains("Rescue at the next boot"));
    assert_eq!(order(&vera, &[("order", "rescue_next")]), 403);
    let token = server.folders.token("viewer", "view");
    let bearer = format!("Authorization: Bearer {token}");
    let body = json!({"serial": PI, "order": "rescue_next"}).to_string();
    assert_eq!(server.curl(&["--header", &bearer, "--data", &body], "/v1/orders").status, 403);
    assert_eq!(plan(&server), None);
}

#[test]
fn orders_make_plans() {
    let server = site();
    let anna = server.logged_in("anna");
    assert_eq!(order(&anna, &[("order", "assign"), ("image", "os/none.squashfs")]), 422);
    assert_eq!(order(&anna, &[("order", "assign"), ("image", "os/debian.squashfs")]), 303);
    let assigned = format!("root=live:http://{}/os/debian.squashfs", server.address);
    assert_eq!(plan(&server), Some(assigned.clone()));
    assert_eq!(server.get(&format!("/v1/boot/{PI}/minisig")).status, 404);
    let no_host = server.curl(&["--http1.0", "--header", "Host:"], &format!("/v1/boot/{PI}"));
    assert_eq!(no_host.status, 400);

    assert_eq!(order(&anna, &[("order", "rescue_next")]), 303);
    assert_eq!(plan(&server).as_deref(), Some("lifeboat.rescue"));
    server.event(PI, &event("boot-b", 1, "console", "done"));
    assert_eq!(plan(&server).as_deref(), Some("lifeboat.rescue"));
    server.event(PI, &event("boot-c", 1, "console", "done"));
    assert_eq!(plan(&server), Some(assigned));

    let signed = json!({"format": 1, "device": PI, "parameters": "root=UUID=1"}).to_string() + "\n";
    let minisig = sign(signed.as_bytes());
    let upload = |plan: &str| order(&anna, &[("order", "plan"), ("plan", plan), ("minisig", &minisig)]);
    assert_eq!(upload(&signed.replace(PI, "other")), 422);
    assert_eq!(upload(&signed.replace('\n', "\r\n")), 303);
    assert_eq!(server.get(&format!("/v1/boot/{PI}")).body, signed);
    assert_eq!(server.get(&format!("/v1/boot/{PI}/minisig")).body, minisig);
    assert_eq!(order(&anna, &[("order", "clear")]), 303);
    assert_eq!(plan(&server), None);
}

#[test]
fn who_guesses_passwords_has_to_wait() {
    let server = site();
    let browser = server.browser();
    let csrf = browser.get("/ui/login").csrf();
    let mut counted = BTreeMap::new();
    for _ in 0..8 {
        // Each page has another secret, and a failed login is answered with a page.
        let csrf = browser.get("/ui/login").csrf();
        let answer = browser.send_with(&csrf, &[("name", "anna"), ("password", "guess")], "/ui/login");
        *counted.entry(answer.status).or_insert(0) += 1;
        if answer.status == 429 {
            assert!(answer.header("retry-after").parse::<u64>().unwrap() > 0);
        }
    }
    assert!(counted[&401] >= 5 && counted[&429] >= 1, "{counted:?}");
    let right = browser.send_with(&csrf, &[("name", "anna"), ("password", PASSWORD)], "/ui/login");
    assert_ne!(right.status, 303, "not even with the right one");
}

#[test]
fn the_first_person_comes_in_by_the_code_in_the_log() {
    let server = Folders::new().serve(&[]);
    let log = server.first_log.join("\n");
    let code = log.split("set-up code ").nth(1).unwrap().split(' ').next().unwrap();
    let browser = server.browser();
    let set_up = |code: &str, password: &str| {
        browser.send("/ui/login", &[("code", code), ("name", "anna"), ("password", password)], "/ui/setup")
    };
    assert_eq!(set_up("AAAA-AAAA-AAAA-AAAA-AAAA", PASSWORD).status, 403);
    let short = set_up(code, "short");
    assert!(short.status == 403 && short.body.contains("at least 10 characters"));
    assert_eq!(set_up(code, PASSWORD).status, 303);
    assert!(browser.get("/ui/").body.contains("anna (operate)"));
    let second =
        browser.send("/ui/login", &[("code", code), ("name", "eve"), ("password", PASSWORD)], "/ui/setup");
    assert!(second.status == 403 && second.body.contains("added meanwhile"));
    let log = browser.get("/ui/audit").body;
    assert!(log.contains("user add") && log.contains("set-up failed"));
}

#[test]
fn a_hostile_device_is_only_text() {
    let server = site();
    let evil = "<script>alert(1)</script>\"'><img src=x onerror=alert(2)>";
    let mut hostile = event("evil", 1, "fetch", "failed");
    let fields = json!({"error": evil, "model": evil, "bootloader": evil, "host_key": evil, "addresses": [evil],
        "last_crash": evil, "progress": {"bytes": u64::MAX, "total": 0, "rate": u64::MAX}, "retry_in_s": u64::MAX});
    hostile.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
    hostile["uptime_ms"] = json!(u64::MAX);
    server.event("evil", &hostile);
    server.curl(&["--user-agent", &format!("rpiboot/1.0 {evil}")], "/boot.sig");
    std::fs::write(server.folders.root().join("<img src=x onerror=alert(3)>.squashfs"), evil).unwrap();
    let anna = server.logged_in("anna");
    anna.log_in("<script>", PASSWORD);
    let query = "/ui/?q=%22%3E%3Cscript%3Ealert(4)%3C/script%3E&state=%22%3E%3Cscript%3E";
    for path in
        ["/ui/", query, "/ui/devices/evil", "/ui/devices/evil?boot=%3Cscript%3E", "/ui/images", "/ui/audit"]
    {
        let answer = anna.get(path);
        assert_eq!(answer.status, 200, "{path}");
        let scripts = answer.body.matches("<script").count();
        assert_eq!(scripts, 1, "our own alone: {path}: {}", answer.body);
        assert!(!answer.body.contains("<img") && !answer.body.contains("'>"), "{path}: {}", answer.body);
        let policy = answer.header("content-security-policy");
        assert!(policy.starts_with("default-src 'none'") && !policy.contains("unsafe"), "{policy}");
        for (name, value) in [
            ("x-content-type-options", "nosniff"),
            ("x-frame-options", "DENY"),
            ("cache-control", "no-store"),
        ] {
            assert_eq!(answer.header(name), value, "{path}");
        }
    }
    let login = server.get("/ui/login?next=%22%3E%3Cscript%3E");
    assert_eq!(login.body.matches("<script").count(), 1);
    // A page of HTML among the boot files has none of the page's rights.
    std::fs::write(server.folders.root().join("x.html"), evil).unwrap();
    assert_eq!(server.get("/x.html").header("content-security-policy"), "sandbox");
}

#[test]
fn who_did_what_is_written_down() {
    let server = site();
    let anna = server.logged_in("anna");
    anna.log_in("vera", "a wrong password");
    order(&anna, &[("order", "assign"), ("image", "os/debian.squashfs")]);
    let bearer = format!("Authorization: Bearer {}", server.folders.token("ci", "operate"));
    let body = json!({"serial": PI, "order": "clear"}).to_string();
    assert_eq!(server.curl(&["--header", &bearer, "--data", &body], "/v1/orders").status, 200);
    let entries = server.curl(&["--header", &bearer], "/v1/audit?limit=50").json();
    let lines: Vec<_> = entries["entries"]
        .as_array()
        .unwrap()
        .iter()
        .rev()
        .map(|e| {
            ["who", "address", "action", "subject", "detail"]
                .map(|k| e[k].as_str().unwrap().to_owned())
                .join("|")
        })
        .collect();
    let command_line = lines[0].split('|').next().unwrap().to_owned();
    assert!(command_line.starts_with("command line (uid "), "{command_line}");
    let wanted = [
        format!("{command_line}||user add|anna|operate"),
        format!("{command_line}||user add|vera|view"),
        "anna|127.0.0.1|login||".into(),
        "somebody|127.0.0.1|login failed|vera|".into(),
        format!("anna|127.0.0.1|assign|{PI}|os/debian.squashfs"),
        format!("{command_line}||token add|ci|operate"),
        format!("token ci|127.0.0.1|clear|{PI}|"),
    ];
    assert_eq!(lines, wanted);
}

#[test]
fn a_kill_loses_no_acknowledged_change() {
    let mut folders = Folders::new();
    folders.image("os/debian.squashfs");
    let bearer = format!("Authorization: Bearer {}", folders.token("ci", "operate"));
    let mut acknowledged: Vec<String> = Vec::new();
    for round in 0..8 {
        let server = folders.serve(&[]);
        let orders = server.curl(&["--header", &bearer], "/v1/orders").json();
        let kept: Vec<_> =
            orders["orders"].as_array().unwrap().iter().map(|o| o["serial"].as_str().unwrap()).collect();
        for serial in &acknowledged {
            assert!(kept.contains(&serial.as_str()), "round {round}: the order for {serial} is lost");
        }
        // Orders until the kill, which comes at another moment each time, with events in between.
        let pid = server.child.id().to_string();
        let url = server.url("/v1/orders");
        let wait = std::time::Duration::from_millis(120 + 37 * round);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                std::thread::sleep(wait);
                std::process::Command::new("kill").args(["-KILL", &pid]).status().unwrap();
            });
            for number in 0.. {
                let serial = format!("pi-{round}-{number}");
                let body =
                    json!({"serial": serial, "order": "assign", "image": "os/debian.squashfs"}).to_string();
                let output = std::process::Command::new("curl")
                    .args(["--silent", "--write-out", "%{http_code}", "--output", "/dev/null"])
                    .args(["--header", &bearer, "--data", &body, &url])
                    .output();
                match String::from_utf8(output.unwrap().stdout).unwrap().as_str() {
                    "200" => acknowledged.push(serial),
                    _ => break,
                }
            }
        });
        folders = server.kill();
    }
    assert!(acknowledged.len() > 8, "{}", acknowledged.len());
}

#[test]
fn what_was_seen_is_there_after_a_restart() {
    let mut server = site();
    server.event(PI, &event("boot-b", 1, "fetch", "failed"));
    server.stop();
    let folders = std::mem::replace(&mut server.folders, Folders::new());
    let server = folders.serve(&[]);
    let anna = server.logged_in("anna");
    let device = &anna.get("/v1/devices").json()["devices"][0];
    assert_eq!(
        (&device["boots"], &device["boot_id"], &device["state"]),
        (&json!(2), &json!("boot-b"), &json!("failed"))
    );
}

#[test]
fn it_says_why_it_cannot_start() {
    let folders = Folders::new();
    let serve = |state: &std::path::Path| {
        let output = std::process::Command::new(env!("CARGO_BIN_EXE_http-boot"))
            .args(["serve", "--listen", "127.0.0.1:0", "--root"])
            .arg(folders.root())
            .arg("--state")
            .arg(state)
            .output()
            .unwrap();
        assert_eq!(output.status.code(), Some(1));
        String::from_utf8(output.stderr).unwrap()
    };
    assert!(serve(&folders.root().join("state")).contains("which is for everyone"));
    std::fs::create_dir(folders.state()).unwrap();
    std::fs::write(folders.state().join("http-boot.sqlite"), "no database at all, but long enough to be one")
        .unwrap();
    assert!(serve(&folders.state()).contains("file is not a database"));
    std::fs::remove_file(folders.state().join("http-boot.sqlite")).unwrap();
    let server = Folders::new().serve(&[]);
    assert!(serve(&server.folders.state()).contains("another http-boot serves with the state folder"));
    let short = folders.command(&["user", "add", "anna", "--role", "view"], "short\n");
    assert_eq!(short.status.code(), Some(1));
    let elsewhere = std::process::Command::new(env!("CARGO_BIN_EXE_http-boot"))
        .args(["user", "list", "--state", "/nonexistent/state"])
        .output()
        .unwrap();
    assert!(String::from_utf8(elsewhere.stderr).unwrap().contains("is no folder"));
}
