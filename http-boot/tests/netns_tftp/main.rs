//! The TFTP server against clients that are not ours, and against what a bootloader does, on good lines and bad ones; and a
//! flood. Needs root.
#![allow(
    missing_docs,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    reason = "a test may panic"
)]

mod cable;
mod pi;
mod site;

use std::net::{SocketAddr, UdpSocket};
use std::time::Duration;

use cable::{Weather, inside};
use pi::{Got, Pi, request};
use site::{Site, noise};

const ASKED: &str = "192.0.2.1:69";

/// Each client's command line, to fetch `FILE` into `INTO`.
const CLIENTS: [(&str, &str); 9] = [
    ("tftp-hpa", "tftp -m binary 192.0.2.1 -c get FILE INTO"),
    ("tftp-hpa, IPv6", "tftp -6 -m binary fd00::1 -c get FILE INTO"),
    ("atftp", "atftp --get -r FILE -l INTO 192.0.2.1"),
    (
        "atftp, windows",
        "atftp --option 'blksize 1400' --option 'windowsize 8' --option 'timeout 1' --get -r FILE -l INTO 192.0.2.1",
    ),
    ("atftp, tsize", "atftp --option 'tsize 0' --option 'blksize 1468' --get -r FILE -l INTO 192.0.2.1"),
    ("busybox", "busybox tftp -g -r FILE -l INTO 192.0.2.1"),
    ("busybox, blksize", "busybox tftp -b 1468 -g -r FILE -l INTO 192.0.2.1"),
    ("curl", "curl --silent --show-error --output INTO tftp://192.0.2.1/FILE"),
    (
        "curl, blksize, IPv6",
        "curl --globoff --silent --show-error --tftp-blksize 1468 --output INTO 'tftp://[fd00::1]/FILE'",
    ),
];

/// All of them at once: on a bad line they wait for most of the time.
fn all_clients_get(weather: Weather, arguments: &[&str], sizes: &[usize]) -> Site {
    let mut site = Site::new(weather, 7);
    for size in sizes {
        site.put(&format!("file{size}"), &noise(*size));
    }
    site.serve(arguments);
    std::thread::scope(|scope| {
        for (number, (name, line)) in CLIENTS.iter().enumerate() {
            let site = &site;
            scope.spawn(move || {
                for size in sizes {
                    let (file, into) = (format!("file{size}"), format!("got{number}-{size}"));
                    let mut line = line.replace("FILE", &file).replace("INTO", &into);
                    // atftp 0.8 gives up on an OACK that comes twice: where an ACK can be lost, it takes a few tries.
                    if weather.loss > 0 && line.contains("--option") {
                        line = format!("for n in 1 2 3 4 5 6; do {line} && exit; done; exit 1");
                    }
                    let output = site.at_client(&line);
                    assert!(site.same(&into, &file), "{name}, {size} bytes, {weather:?}: {output:?}");
                }
            });
        }
    });
    site
}

#[test]
fn real_clients_get_files() {
    let site = all_clients_get(Weather::CLEAR, &[], &[1, 511, 512, 1468 * 3, 3_000_000]);
    let again: Vec<_> = site.log().into_iter().filter(|line| line.contains("cut")).collect();
    assert!(again.is_empty(), "{again:#?}");
}

#[test]
fn real_clients_get_files_from_a_single_port() {
    all_clients_get(Weather::CLEAR, &["--tftp-single-port"], &[512, 1_000_000]);
}

#[test]
fn real_clients_get_files_over_a_bad_line() {
    all_clients_get(Weather::BAD, &[], &[1024, 120_000]);
}

#[test]
fn real_clients_get_files_over_a_bad_line_from_a_single_port() {
    all_clients_get(Weather::BAD, &["--tftp-single-port"], &[120_000]);
}

/// Block numbers of 16 bits are used up after 32 MiB.
#[test]
fn block_numbers_wrap() {
    let mut site = Site::new(Weather::CLEAR, 1);
    site.put("large", &noise(65536 * 512 + 100_000));
    site.serve(&[]);
    for (name, line) in CLIENTS.into_iter().filter(|(name, _)| ["tftp-hpa", "curl"].contains(name)) {
        let output = site.at_client(&line.replace("FILE", "large").replace("INTO", "got"));
        assert!(site.same("got", "large"), "{name}: {output:?}");
        std::fs::remove_file(site.path("got")).unwrap();
    }
}

/// What a Pi 4 asks for, in the order that was seen, over shared files and a config.txt of its own.
fn a_pi_boots(weather: Weather, arguments: &[&str]) {
    let mut site = Site::new(weather, 3);
    let sizes = [
        ("start4.elf", 400_000),
        ("fixup4.dat", 5_448),
        ("bcm2711-rpi-4-b.dtb", 52_000),
        ("overlays/overlay_map.dtb", 2_000),
        ("initramfs8", 700_000),
        ("kernel8.img", 900_000),
    ];
    sizes.iter().for_each(|(name, size)| site.put(name, &noise(*size)));
    site.put("config.txt", b"arm_64bit=1\n");
    site.put("9ffefdef/config.txt", b"# this one\n");
    site.put("cmdline.txt", b"console=serial0,115200\n");
    site.serve(arguments);
    let missing = || Got::Error(1, "no such file".into());
    let file = |name: &str| {
        let (_, size) = sizes.iter().find(|(known, _)| *known == name).unwrap();
        Got::File(noise(*size))
    };
    let own = || Got::File(b"# this one\n".to_vec());
    inside(&site.client(), || {
        // The EEPROM's part.
        let pi = Pi { server: ASKED.parse().unwrap(), block: 1024 };
        assert_eq!(pi.probe("9ffefdef/start4.elf"), Got::There(400_000));
        assert_eq!(pi.get("9ffefdef/config.txt"), own());
        for name in ["vl805.sig", "pieeprom.sig", "recover4.elf", "recovery.elf"] {
            assert_eq!(pi.get(&format!("9ffefdef/{name}")), missing(), "{name}");
        }
        assert_eq!(pi.get("9ffefdef/start4.elf"), file("start4.elf"));
        assert_eq!(pi.get("9ffefdef/fixup4.dat"), file("fixup4.dat"));
        // start4.elf's, with a client of its own, and two slashes.
        let pi = Pi { server: ASKED.parse().unwrap(), block: 1468 };
        for name in ["recovery.elf", "dt-blob.bin", "bootcfg.txt"] {
            assert_eq!(pi.get(&format!("9ffefdef//{name}")), missing(), "{name}");
        }
        assert_eq!(pi.get("9ffefdef//config.txt"), own());
        assert_eq!(pi.get("9ffefdef//initramfs8"), file("initramfs8"));
        assert_eq!(pi.probe("9ffefdef//bcm2711-rpi-4-b.dtb"), Got::There(52_000));
        assert_eq!(pi.get("9ffefdef//bcm2711-rpi-4-b.dtb"), file("bcm2711-rpi-4-b.dtb"));
        assert_eq!(pi.get("9ffefdef//overlays/overlay_map.dtb"), file("overlays/overlay_map.dtb"));
        assert_eq!(pi.get("9ffefdef//cmdline.txt"), Got::File(b"console=serial0,115200\n".to_vec()));
        assert_eq!(pi.probe("9ffefdef//kernel8.img"), Got::There(900_000));
        assert_eq!(pi.get("9ffefdef//kernel8.img"), file("kernel8.img"));
    });
    let line = site.wait_for_log("\"bytes\":900000");
    for words in
        ["\"client\":\"9ffefdef\"", "\"block\":1468", "\"window\":1", "\"retransmissions\":", "\"seconds\":"]
    {
        assert!(line.contains(words), "{words} in {line}");
    }
    assert!(site.wait_for_log("tftp: a probe").contains("DEBUG"));
}

#[test]
fn a_pi_boots_over_a_good_line() {
    a_pi_boots(Weather::CLEAR, &[]);
    a_pi_boots(Weather::CLEAR, &["--tftp-single-port"]);
}

#[test]
fn a_pi_boots_over_a_bad_line() {
    a_pi_boots(Weather { loss: 30, duplicates: 50, reordered: 50 }, &[]);
}

#[test]
fn the_address_that_was_asked_answers() {
    for arguments in [&[][..], &["--tftp-single-port"], &["0.0.0.0"], &["0.0.0.0", "--tftp-single-port"]] {
        let mut site = Site::new(Weather::CLEAR, 1);
        site.put("config.txt", b"a=1\n");
        site.serve(arguments);
        let servers = ["192.0.2.1:69", "192.0.2.9:69", "[fd00::1]:69"];
        let servers = if arguments.contains(&"0.0.0.0") { &servers[..2] } else { &servers };
        inside(&site.client(), || {
            for server in servers {
                let pi = Pi { server: server.parse().unwrap(), block: 1024 };
                assert_eq!(pi.get("config.txt"), Got::File(b"a=1\n".to_vec()), "{server} {arguments:?}");
                assert_eq!(pi.get("no"), Got::Error(1, "no such file".into()), "{server} {arguments:?}");
            }
        });
    }
}

#[test]
fn nothing_but_reading_below_the_folder() {
    let mut site = Site::new(Weather::CLEAR, 1);
    site.put("start4.elf", b"elf");
    site.put(".hidden", b"hidden");
    std::fs::write(site.path("root/secret"), "secret").unwrap();
    std::os::unix::fs::symlink("../secret", site.path("root/tftp/link")).unwrap();
    std::os::unix::fs::symlink("/etc", site.path("root/tftp/etc")).unwrap();
    site.serve(&[]);
    inside(&site.client(), || {
        let pi = Pi { server: ASKED.parse().unwrap(), block: 1024 };
        for name in [
            "../secret",
            "/../secret",
            "9ffefdef/../../secret",
            "..",
            ".hidden",
            "..\\secret",
            "9ffefdef/.hidden",
        ] {
            assert_eq!(pi.get(name), Got::Error(2, "this name is not served".into()), "{name}");
        }
        for name in ["link", "etc/passwd", "/etc/passwd", "9ffefdef/link", "secret", "", "/"] {
            assert_eq!(pi.get(name), Got::Error(1, "no such file".into()), "{name}");
        }
        let socket = UdpSocket::bind("0.0.0.0:0").unwrap();
        socket.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        let mut buffer = [0; 600];
        socket.send_to(&request(2, b"start4.elf", &[]), ASKED).unwrap();
        let (length, _) = socket.recv_from(&mut buffer).unwrap();
        assert_eq!(&buffer[..length], b"\0\x05\0\x02this server is for reading only\0");
    });
    assert_eq!(std::fs::read(site.path("root/tftp/start4.elf")).unwrap(), b"elf");
    site.wait_for_log("a symlink leads out of the root");
}

#[test]
fn without_the_capability_it_says_what_to_do() {
    let site = Site::new(Weather::CLEAR, 1);
    let without = ["setpriv", "--bounding-set=-net_bind_service", "--inh-caps=-net_bind_service"];
    // HTTP is to be at a port that needs none.
    let output = site.spawn(&without, &["--listen", "192.0.2.1:8080"]).wait_with_output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success() && said.contains("CAP_NET_BIND_SERVICE"), "{said}");
}

/// A question as it is on the wire, from whatever address.
fn spoofed(from: SocketAddr, question: &[u8]) -> Vec<u8> {
    let SocketAddr::V4(from) = from else { panic!("{from}") };
    let length = |bytes: usize| u16::try_from(bytes).unwrap().to_be_bytes();
    let mut packet = vec![0x45, 0];
    packet.extend(length(28 + question.len()));
    packet.extend([0, 0, 0, 0, 64, 17, 0, 0]);
    packet.extend(from.ip().octets());
    packet.extend([192, 0, 2, 1]);
    let sum: u32 = packet.chunks(2).map(|pair| u32::from(u16::from_be_bytes([pair[0], pair[1]]))).sum();
    let folded = (sum & 0xffff) + (sum >> 16);
    packet[10..12].copy_from_slice(&(!(folded as u16)).to_be_bytes());
    packet.extend(from.port().to_be_bytes());
    packet.extend(69u16.to_be_bytes());
    packet.extend(length(8 + question.len()));
    // UDP over IPv4 may go without a checksum (RFC 768).
    packet.extend([0, 0]);
    packet.extend(question);
    packet
}

#[test]
fn a_flood_of_questions_stops_nobody() {
    for arguments in [&[][..], &["--tftp-single-port"]] {
        let mut site = Site::new(Weather::CLEAR, 1);
        site.put("start4.elf", &noise(2_000_000));
        site.put("large", &noise(30_000_000));
        site.serve(arguments);
        std::thread::scope(|scope| {
            let site = &site;
            let fetching = scope
                .spawn(|| site.at_client("curl --silent --show-error --output got tftp://192.0.2.1/large"));
            // Under way: in a flood, who was not heard yet gives way, and curl does not ask anew as a Pi does.
            site.wait_for_bytes("got");
            let question = request(1, b"9ffefdef/start4.elf", &[("tsize", "0"), ("blksize", "1468")]);
            let mut most = 0;
            for number in 0..=0xffffu32 {
                let [_, _, high, low] = number.to_be_bytes();
                let from = SocketAddr::from(([10, 64, high, low], 1024 + (number % 50_000) as u16));
                site.cable.as_ref().unwrap().inject(&spoofed(from, &question));
                if number % 4096 == 0 {
                    most = most.max(site.descriptors());
                }
            }
            // And one address that asks 64k times.
            for port in 0..=0xffffu16 {
                site.cable
                    .as_ref()
                    .unwrap()
                    .inject(&spoofed(SocketAddr::from(([10, 65, 0, 1], port)), &question));
            }
            // A Pi that comes in the middle of it.
            inside(&site.client(), || {
                let pi = Pi { server: ASKED.parse().unwrap(), block: 1468 };
                assert_eq!(pi.get("9ffefdef/start4.elf"), Got::File(noise(2_000_000)));
            });
            let output = fetching.join().unwrap();
            assert!(site.same("got", "large"), "{output:?}");
            assert!(most < 8600, "{most} descriptors");
            let peak = site.status("VmHWM");
            println!("{arguments:?}: {most} descriptors, {peak} KiB");
            assert!(peak < 160 * 1024, "{peak} KiB");
        });
    }
}

/// A client that takes its time: an ACK each 200 ms, so that it is never silent.
fn is_told_that_the_server_stops(site: &Site, second_signal: bool) {
    inside(&site.client(), || {
        let socket = UdpSocket::bind("0.0.0.0:0").unwrap();
        socket.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
        socket.send_to(&request(1, b"large", &[("blksize", "512")]), ASKED).unwrap();
        let (mut buffer, mut signals) = ([0; 1024], 0);
        let text = loop {
            let (length, from) = socket.recv_from(&mut buffer).unwrap();
            let block = match &buffer[..length] {
                [0, 6, ..] => [0, 0],
                [0, 3, high, low, ..] => [*high, *low],
                [0, 5, 0, 0, text @ ..] => break String::from_utf8_lossy(text).into_owned(),
                other => panic!("{other:?}"),
            };
            std::thread::sleep(Duration::from_millis(200));
            socket.send_to(&[0, 4, block[0], block[1]], from).unwrap();
            if signals == 0 || second_signal && signals == 1 && !site.log_of("stopping on").is_empty() {
                signals += 1;
                site.signal("TERM");
            }
        };
        assert!(text.starts_with("the server stops"), "{text}");
    });
}

#[test]
fn a_client_that_is_cut_at_the_stop_is_told() {
    for (arguments, second_signal) in [(&[][..], false), (&["--tftp-single-port"], true)] {
        let mut site = Site::new(Weather::CLEAR, 1);
        site.put("large", &noise(1_000_000));
        site.serve(arguments);
        is_told_that_the_server_stops(&site, second_signal);
        site.wait_for_log("tftp cut: the server stops");
    }
}
