//! The boot server's plan: a Pi whose command line says nothing goes where the server says.

use crate::site::{Images, Server, ssh_ok, wait, wait_console};
use serde_json::json;

tests![a_pi_goes_where_its_server_says, a_signed_plan_may_start_a_disk,];

const OWN: &str = "plans/10000000abcdef01.json";

/// Publishes a plan, signed or not.
fn put_plan(server: &Server, parameters: &str, signed: bool) {
    let plan = json!({"format": 1, "device": "10000000abcdef01", "parameters": parameters}).to_string();
    std::fs::create_dir_all(server.root.path().join("plans")).unwrap();
    if signed {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("plan.json");
        std::fs::write(&file, &plan).unwrap();
        crate::site::images::sign(&file);
        let signature = std::fs::read(folder.path().join("plan.json.minisig")).unwrap();
        server.put(&format!("{OWN}.minisig"), &signature);
    }
    server.put(OWN, plan.as_bytes());
}

/// First a plan that it must not follow, then one for an image that is not there, at last a right one.
fn a_pi_goes_where_its_server_says() {
    let server = Server::start();
    server.put_os(&Images::get().tiny);
    put_plan(&server, "root=LABEL=root", false);
    let machine = server.power_on(&format!("lifeboat.server={}", server.url("")));
    wait(&machine, "a refusal", |status| {
        status.step == "rescue" && status.next.contains("root=LABEL=root: only a signed plan may say so")
    });
    put_plan(&server, &format!("root=live:{}", server.url("missing.squashfs")), false);
    wait(&machine, "404", |status| status.last_error.as_ref().is_some_and(|error| error.step == "manifest"));
    put_plan(&server, &format!("root=live:{}", server.url("tiny.squashfs")), false);
    wait_console(&machine, "TEST-OS end");
}

/// A signed plan may name a disk; without one it waits for it.
fn a_signed_plan_may_start_a_disk() {
    let server = Server::start();
    put_plan(&server, "root=LABEL=nowhere", true);
    let machine = server.power_on(&format!("lifeboat.server={}", server.url("")));
    wait(&machine, "no such disk", |status| {
        status.last_error.as_ref().is_some_and(|error| error.error.contains("LABEL=nowhere"))
    });
    assert!(ssh_ok(&machine, "rescue status").contains("boot from the disk LABEL=nowhere"));
}
