//! The static program alone, in a root that has nothing else but what each container runtime puts there (OCI runtime
//! specification, default devices): what is in the container.

use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};

use crate::machine::{Ended, made};

#[test]
fn the_program_serves_from_an_empty_root() {
    let folder = tempfile::tempdir().unwrap();
    for name in ["srv", "state", "dev"] {
        std::fs::create_dir(folder.path().join(name)).unwrap();
    }
    for (device, minor) in [("random", "8"), ("urandom", "9")] {
        let path = folder.path().join("dev").join(device);
        Ended::new(&Command::new("mknod").arg(path).args(["c", "1", minor]).output().unwrap()).unwrap();
    }
    let unpacked = tempfile::tempdir().unwrap();
    let deb =
        Command::new("dpkg-deb").arg("--extract").arg(made("deb-1")).arg(unpacked.path()).output().unwrap();
    Ended::new(&deb).unwrap();
    std::fs::copy(unpacked.path().join("usr/bin/http-boot"), folder.path().join("http-boot")).unwrap();
    std::fs::write(folder.path().join("srv/hello"), "from nothing\n").unwrap();

    let mut server = Command::new("timeout")
        .args(["--kill-after=5", "60", "unshare", "--root"])
        .arg(folder.path())
        .args(["/http-boot", "serve", "--root", "/srv", "--state", "/state", "--listen", "127.0.0.1:0"])
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut log = BufReader::new(server.stderr.take().unwrap()).lines().map_while(Result::ok);
    let line =
        log.by_ref().inspect(|line| println!("{line}")).find(|line| line.contains("listening on http://"));
    let line = line.expect("it says where it listens");
    let address = line.split_once("listening on ").unwrap().1.split_whitespace().next().unwrap().to_owned();
    let got = Command::new("curl")
        .args(["--silent", "--show-error", "--fail", "--max-time", "20"])
        .arg(format!("{address}/hello"))
        .output();
    assert_eq!(Ended::new(&got.unwrap()).unwrap(), "from nothing\n");
    // SIGTERM goes on to what timeout started.
    Command::new("kill").arg(server.id().to_string()).status().unwrap();
    assert!(log.any(|line| line.contains("stopped")), "it ends in order");
    server.wait().unwrap();
    assert!(folder.path().join("state/http-boot.sqlite").exists());
}
