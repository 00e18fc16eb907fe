//! Boot mode NETWORK, and the boot order, on a switch with a boot server and, beside it, a DHCP server that knows nothing of it.

use std::process::Command;

use crate::site::bridge::{Bridge, text};
use crate::site::images::program;

tests![
    proxy_dhcp_beside_dnsmasq_then_tftp_then_ssh,
    full_dhcp_alone_with_the_folder_of_the_mac,
    no_file_over_http_falls_through_to_the_network,
    no_network_boot_falls_through_to_https,
];

const SERIAL: &str = "abcdef01";

/// The order of a Pi 4 (facts, section 3) up to the kernel, over TFTP, without what a real one asks for again.
const ORDER: [&str; 19] = [
    "start4.elf",
    "config.txt",
    "pieeprom.sig",
    "recover4.elf",
    "recovery.elf",
    "config.txt",
    "start4.elf",
    "fixup4.dat",
    "recovery.elf",
    "dt-blob.bin",
    "recovery.elf",
    "bootcfg.txt",
    "initramfs8",
    "bcm2711-rpi-4-b.dtb",
    "overlays/overlay_map.dtb",
    "cmdline.txt",
    "recovery8.img",
    "armstub8-gic.bin",
    "kernel8.img",
];

fn proxy_dhcp_beside_dnsmasq_then_tftp_then_ssh() {
    let mut site = Bridge::new();
    site.start_router();
    let server = site.start_server("--tftp --dhcp proxy --dhcp-interface eth0");
    site.put_command_line(SERIAL, "found.by=serial");
    site.put_command_line("default", "found.by=default");
    let pi = site.power_on("BOOT_ORDER=0x2\n", &format!("--serial {SERIAL}"));
    let address = pi.wait_for_rescue();
    let said =
        site.ssh(&address, "cat /proc/cmdline; od -An -tu1 /proc/device-tree/chosen/bootloader/boot-mode");
    let said = String::from_utf8(said.stdout).unwrap();
    assert!(said.contains("found.by=serial") && said.trim_end().ends_with("0   0   0   2"), "{said}");
    let wanted: Vec<_> = ORDER.iter().map(|name| format!("{SERIAL}/{name}")).collect();
    assert_eq!(pi.asked_for(), wanted);
    let log = text(&pi.log);
    assert!(log.contains("DHCP src: 192.0.2.1\n") && log.contains("DHCP src: 192.0.2.10\n"), "{log}");
    assert!(text(&server).contains(SERIAL), "{}", text(&server));
}

fn full_dhcp_alone_with_the_folder_of_the_mac() {
    let mut site = Bridge::new();
    let leases = site.folder.path().join("leases");
    site.start_server(&format!(
        "--tftp --dhcp full --dhcp-interface eth0 --dhcp-range 192.0.2.50-192.0.2.60 --dhcp-leases {}",
        leases.display()
    ));
    // A key that is in no image comes with the command line of this Pi alone.
    let key = site.folder.path().join("key");
    let made = Command::new("ssh-keygen")
        .args(["-q", "-t", "ed25519", "-N", "", "-C", "site", "-f"])
        .arg(&key)
        .status();
    assert!(made.unwrap().success());
    let public = std::fs::read_to_string(key.with_extension("pub")).unwrap();
    let words = format!("found.by=mac lifeboat.authorized_key=\"{}\"", public.trim());
    site.put_command_line("dc-a6-32-cd-ef-01", &words);
    site.put_command_line("default", "found.by=default");
    let pi = site.power_on("BOOT_ORDER=0xf2\nTFTP_PREFIX=2\n", &format!("--serial {SERIAL}"));
    let address = pi.wait_for_rescue();
    // The rescue's own DHCP got the address that the bootloader had.
    assert!(text(&pi.log).contains(&format!("the Pi has {address}/24")), "{address}: {}", text(&pi.log));
    let said = site.ssh(&address, "cat /proc/cmdline");
    assert!(String::from_utf8_lossy(&said.stdout).contains("found.by=mac"), "{said:?}");
    assert_eq!(pi.asked_for().first().map(String::as_str), Some("dc-a6-32-cd-ef-01/start4.elf"));
    let said = site.ssh_with(&key, &address, "echo $((6 * 7))");
    assert_eq!(String::from_utf8_lossy(&said.stdout).trim(), "42", "{said:?}");
}

fn no_file_over_http_falls_through_to_the_network() {
    let mut site = Bridge::new();
    site.start_router();
    site.start_server("--tftp --dhcp proxy --dhcp-interface eth0");
    site.put_command_line("default", "found.by=default");
    let bootconf = "[all]\nBOOT_ORDER=0xf27\nHTTP_HOST=192.0.2.10\nHTTP_PATH=no/such\n";
    let pi = site.power_on(bootconf, &format!("--board cm4 --serial {SERIAL}"));
    let address = pi.wait_for_rescue();
    let log = text(&pi.log);
    let (http, network) =
        (log.find("Boot mode: HTTP (07) order f2"), log.find("Boot mode: NETWORK (02) order f"));
    assert!(http.is_some() && http < network && log.contains("Error 6 loading boot.sig"), "{log}");
    let said = site.ssh(&address, "cat /proc/cmdline /proc/device-tree/model");
    let said = String::from_utf8_lossy(&said.stdout).into_owned();
    assert!(said.contains("found.by=default") && said.contains("Compute Module 4"), "{said}");
    assert!(pi.asked_for().contains(&format!("{SERIAL}/bcm2711-rpi-cm4.dtb")));
}

fn no_network_boot_falls_through_to_https() {
    let mut site = Bridge::new();
    site.start_router();
    let folder = site.folder.path().join("ca");
    let status =
        Command::new(program("http-boot")).args(["ca", "--name", "192.0.2.10"]).arg(&folder).status();
    assert!(status.unwrap().success());
    let file = |name: &str| folder.join(name).display().to_string();
    site.start_server(&format!(
        "--listen-tls 0.0.0.0:443 --tls-certificate {} --tls-key {}",
        file("server.pem"),
        file("server.key")
    ));
    let hash = sha256(&file("ca.der"));
    // Nobody there has boot files for TFTP: DHCP_TIMEOUT ends that, and HTTPS is next.
    let bootconf = format!(
        "BOOT_ORDER=0x72\nDHCP_TIMEOUT=5000\nDHCP_REQ_TIMEOUT=2000\nHTTP_HOST=192.0.2.10\nHTTP_PATH=pi\nHTTP_CACERT_HASH={hash}\n"
    );
    let pi = site.power_on(&bootconf, &format!("--serial {SERIAL} --cacert {}", file("ca.der")));
    let address = pi.wait_for_rescue();
    let log = text(&pi.log);
    for line in
        ["NETBOOT init failed", "HTTP: GET request for https://192.0.2.10:443/pi/boot.img", "rsa-verify"]
    {
        assert!(log.contains(line), "{line}: {log}");
    }
    let said = site.ssh(&address, "od -An -tu1 /proc/device-tree/chosen/bootloader/boot-mode");
    assert!(String::from_utf8_lossy(&said.stdout).trim_end().ends_with('7'), "{said:?}");
    // Another authority, and the bootloader does not take the server for ours.
    let stranger = site.folder.path().join("stranger");
    let made = Command::new(program("http-boot")).args(["ca", "--name", "x"]).arg(&stranger).status();
    assert!(made.unwrap().success());
    let der = stranger.join("ca.der").display().to_string();
    let bootconf =
        format!("BOOT_ORDER=0x7\nHTTP_HOST=192.0.2.10\nHTTP_PATH=pi\nHTTP_CACERT_HASH={}\n", sha256(&der));
    let pi = site.power_on(&bootconf, &format!("--serial {SERIAL} --cacert {der}"));
    assert_eq!(site.wait_for_end(&pi.log).code(), Some(11), "{}", text(&pi.log));
    assert!(text(&pi.log).contains("certificate"), "{}", text(&pi.log));
}

fn sha256(path: &str) -> String {
    use sha2::{Digest, Sha256};
    let bytes = std::fs::read(path).unwrap();
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}
