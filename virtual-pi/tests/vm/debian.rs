//! A full Debian with systemd in RAM, fetched over HTTP: the second thing the project is for.

use crate::site::{Server, images, ssh_ok, wait_console};

tests![debian_runs_from_ram,];

fn debian_runs_from_ram() {
    let server = Server::start();
    server.put_os(&images::debian());
    // systemd waits 90 s for its console's device, which a busy host's guest may not have found by then.
    let append =
        format!("root=live:{} systemd.default_device_timeout_sec=300", server.url("debian.squashfs"));
    let machine = server.power_on(&append);
    wait_console(&machine, "Welcome to .*Debian");
    wait_console(&machine, "debian-in-ram login:");
    // The rescue's SSH server is gone with the initramfs; this is the OS's own.
    let state = ssh_ok(&machine, "systemctl is-system-running --wait || systemctl --failed");
    assert_eq!(state.trim(), "running");
    let root = ssh_ok(&machine, "findmnt --noheadings --output FSTYPE,OPTIONS /");
    assert!(root.starts_with("overlay ") && root.contains("lowerdir=/run/lifeboat/lower"), "{root}");
    assert!(ssh_ok(&machine, "findmnt -no FSTYPE /run/lifeboat/lower").contains("squashfs"));
    let times = ssh_ok(&machine, "systemd-analyze time");
    assert!(times.contains("(initrd)"), "{times}");
    // The initramfs' RAM is the OS's, and so is the choice whom the kernel kills for memory.
    wait_console(&machine, "the initramfs is emptied");
    assert_eq!(ssh_ok(&machine, "cat /proc/1/oom_score_adj").trim(), "0");
    ssh_ok(
        &machine,
        "test -e /lib/modules/$(uname -r)/modules.dep && modprobe dm-crypt && grep -q ^dm_crypt /proc/modules",
    );
    ssh_ok(
        &machine,
        "touch /root/written && grep -q nameserver /etc/resolv.conf && apt-get --version >/dev/null",
    );
}
