//! A fleet's file as the server uses it, and `http-boot check`.
#![allow(
    missing_docs,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    reason = "a test may panic"
)]

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

const RESCUE: &str = "format = 1\n[defaults]\nboot = \"rescue\"\n";

fn http_boot(folder: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_http-boot"));
    command.current_dir(folder).env("NO_COLOR", "1");
    command
}

fn curl(url: &str) -> String {
    let output = Command::new("curl").args(["-sS", "--max-time", "20", url]).output().expect("curl");
    String::from_utf8(output.stdout).unwrap()
}

/// What a key of the image would have signed.
const SIGNED: &str = r#"{"format":1,"device":"10000000abcdef01","parameters":"root=LABEL=x"}"#;

#[test]
fn a_pi_is_told_what_the_file_says_now() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path();
    std::fs::create_dir_all(path.join("root/plans")).unwrap();
    std::fs::write(path.join("root/plans/10000000abcdef01.json"), SIGNED).unwrap();
    std::fs::write(path.join("root/plans/10000000abcdef01.json.minisig"), "signature").unwrap();
    std::fs::write(path.join("fleet.toml"), RESCUE).unwrap();
    let mut process = http_boot(path)
        .args(["serve", "--root", "root", "--listen", "127.0.0.1:0", "--fleet", "fleet.toml"])
        // Should this fail, what is left of it holds no one up who reads the test's output.
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(process.stderr.take().unwrap()).lines().map_while(Result::ok);
    let url = lines
        .find_map(|line| Some(format!("http://{}", line.split_once("listening on http://")?.1)))
        .unwrap();
    let url = url.split_whitespace().next().unwrap().to_owned();
    let plan = || curl(&format!("{url}/v1/boot/10000000abcdef01"));
    assert_eq!(plan(), r#"{"format":1,"parameters":"lifeboat.rescue"}"#);
    assert!(curl(&format!("{url}/v1/boot/10000000abcdef01/minisig")).contains("this plan is not signed"));
    // A wrong change is told, and changes nothing; the next one that is right counts.
    std::fs::write(path.join("fleet.toml"), RESCUE.replace("rescue", "nothing")).unwrap();
    lines.find(|line| line.contains("is wrong: what it said before goes on counting")).unwrap();
    assert_eq!(plan(), r#"{"format":1,"parameters":"lifeboat.rescue"}"#);
    let signed = format!("{RESCUE}[[device]]\nserial = \"abcdef01\"\norders.boot = \"plan\"\n");
    std::fs::write(path.join("fleet.toml"), signed).unwrap();
    std::thread::spawn(move || lines.for_each(drop));
    let began = Instant::now();
    while plan() != SIGNED {
        assert!(began.elapsed() < Duration::from_secs(60), "{}", plan());
        std::thread::sleep(Duration::from_millis(100));
    }
    assert_eq!(curl(&format!("{url}/v1/boot/10000000abcdef01/minisig")), "signature");
    assert_eq!(curl(&format!("{url}/v1/boot/1/minisig")), "this plan is not signed\n");
    // Its EEPROM's HTTP_PATH is its serial number.
    std::fs::create_dir(path.join("root/pi")).unwrap();
    std::fs::write(path.join("root/pi/boot.sig"), "signature of all").unwrap();
    let own = || curl(&format!("{url}/abcdef01//boot.sig"));
    assert_eq!(own(), "no such file\n");
    let say = |orders: &str, wanted: &str| {
        std::fs::write(
            path.join("fleet.toml"),
            format!("{RESCUE}[[device]]\nserial = \"abcdef01\"\n{orders}\n"),
        )
        .unwrap();
        let began = Instant::now();
        while own() != wanted {
            assert!(began.elapsed() < Duration::from_secs(60), "{}", own());
            std::thread::sleep(Duration::from_millis(100));
        }
    };
    say("orders.files = \"pi\"", "signature of all");
    say("orders.boot = \"local\"", "the fleet's file says that this Pi boots from itself\n");
    process.kill().unwrap();
    process.wait().unwrap();
}

#[test]
fn a_file_is_checked_and_shown() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path();
    std::fs::write(path.join("fleet.toml"), RESCUE).unwrap();
    let check = |more: &[&str]| http_boot(path).args(["check", "fleet.toml"]).args(more).output().unwrap();
    let output = check(&[]);
    assert!(output.status.success(), "{output:?}");
    assert!(
        String::from_utf8(output.stdout)
            .unwrap()
            .contains("*                        rescue   -                lifeboat.rescue")
    );
    let json: serde_json::Value = serde_json::from_slice(&check(&["--json"]).stdout).unwrap();
    assert_eq!(json[0]["boot"], "rescue");
    std::fs::write(path.join("fleet.toml"), "format = 1\nimages.x.path = \"x.squashfs\"\n").unwrap();
    assert!(check(&[]).status.success());
    let output = check(&["--root", "."]);
    let said = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(said.contains("fleet.toml: images.x: there is no x.squashfs below the root"), "{said}");
    let missing = http_boot(path).args(["check", "none.toml"]).output().unwrap();
    assert!(String::from_utf8(missing.stderr).unwrap().contains("none.toml: No such file"));
    let words = ["serve", "--root", ".", "--listen", "127.0.0.1:0", "--fleet", "fleet.toml"];
    let output = http_boot(path).args(words).output().unwrap();
    assert!(
        !output.status.success() && String::from_utf8(output.stderr).unwrap().contains("nothing is served")
    );
}
