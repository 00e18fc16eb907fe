//! Which file is found.

use std::fs;
use std::net::Ipv4Addr;

use tempfile::TempDir;

use super::rendering::AsTheyAre;
use super::*;
use crate::pi::Revision;

const CLIENT: IpAddr = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 7));

struct Site {
    folder: TempDir,
    clients: Arc<Clients>,
    tree: BootTree,
}

fn site(files: &[&str]) -> Site {
    site_with(files, Arc::new(AsTheyAre))
}

/// Each file has its own path as its content.
fn site_with(files: &[&str], rendering: Arc<dyn Rendering>) -> Site {
    let folder = TempDir::new().unwrap();
    for file in files {
        let path = folder.path().join(file);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, file).unwrap();
    }
    let clients = Arc::new(Clients::default());
    let tree = BootTree::open(folder.path(), Arc::clone(&clients), rendering).unwrap();
    Site { folder, clients, tree }
}

impl Site {
    fn get(&self, name: &str) -> Result<String, Refusal> {
        let content = self.tree.open(CLIENT, name.as_bytes())?;
        let bytes = match content {
            Content::Memory(bytes) => bytes.to_vec(),
            Content::File(file, _) => text::read(&file).unwrap(),
        };
        Ok(String::from_utf8(bytes).unwrap())
    }

    fn gets(&self, name: &str) -> String {
        self.get(name).unwrap_or_else(|refusal| format!("{refusal}"))
    }
}

#[test]
fn a_plain_tree_serves_all() {
    let site = site(&["start4.elf", "config.txt", "overlays/README"]);
    for name in [
        "start4.elf",
        "/start4.elf",
        "9ffefdef/start4.elf",
        "9ffefdef//start4.elf",
        "dc-a6-32-01-36-c2/start4.elf",
    ] {
        assert_eq!(site.gets(name), "start4.elf", "{name}");
    }
    // TFTP_PREFIX_STR, which may have slashes in it.
    for name in ["rack1/start4.elf", "site/rack1/start4.elf", "site/rack1//start4.elf"] {
        assert_eq!(site.gets(name), "start4.elf", "{name}");
    }
    assert_eq!(site.gets("9ffefdef/overlays/README"), "overlays/README");
    assert_eq!(site.gets("rack1/overlays/README"), "overlays/README");
    for missing in [
        "start.elf",
        "9ffefdef/start.elf",
        "overlays/start4.elf",
        "9ffefdef/overlays/start4.elf",
        "overlays",
        "9ffefdef",
    ] {
        assert_eq!(site.get(missing), Err(Refusal::NotFound), "{missing}");
    }
}

#[test]
fn the_order_is_serial_mac_board_default_tree() {
    let all = ["9ffefdef/f", "dc-a6-32-01-36-c2/f", "cm4/f", "default/f", "f"];
    let identity = Identity {
        serial: Some(PiSerial(0x9ffe_fdef)),
        mac: "dc-a6-32-01-36-c2".parse().ok(),
        revision: None,
        board: Revision(0xd0_3141).board(),
    };
    for first in 0..all.len() {
        let site = site(&all[first..]);
        site.clients.learn(CLIENT, identity);
        for name in ["f", "9ffefdef/f", "dc-a6-32-01-36-c2/f"] {
            assert_eq!(site.gets(name), all[first], "{name}");
        }
    }
    // Without anything known, the prefix says enough.
    let site = site(&all);
    assert_eq!(site.gets("9ffefdef/f"), "9ffefdef/f");
    assert_eq!(site.gets("DC-A6-32-01-36-C2/f"), "dc-a6-32-01-36-c2/f");
    assert_eq!(site.gets("f"), "default/f");
    assert_eq!(site.gets("12345678/f"), "default/f");
}

#[test]
fn a_prefix_is_remembered_for_who_answers() {
    let site = site(&["9ffefdef/config.txt", "config.txt"]);
    assert_eq!(site.gets("config.txt"), "config.txt");
    assert_eq!(site.gets("9ffefdef/config.txt"), "9ffefdef/config.txt");
    assert_eq!(site.gets("config.txt"), "config.txt", "anybody can put this address on a packet");
    site.tree.heard(CLIENT, b"9ffefdef/config.txt");
    assert_eq!(site.gets("config.txt"), "9ffefdef/config.txt");
    assert_eq!(site.tree.describe(CLIENT), "9ffefdef");
    // Another Pi has the address now.
    assert_eq!(site.gets("12345678/config.txt"), "config.txt");
}

#[test]
fn nothing_outside_is_served() {
    let site = site(&["start4.elf", "sub/.hidden", ".secret"]);
    let outside = TempDir::new().unwrap();
    fs::write(outside.path().join("secret"), "secret").unwrap();
    let link = |target: &std::path::Path, name: &str| {
        std::os::unix::fs::symlink(target, site.folder.path().join(name)).unwrap();
    };
    link(&outside.path().join("secret"), "absolute");
    link(std::path::Path::new("../../../../../../../../etc/passwd"), "relative");
    link(outside.path(), "9ffefdef");
    link(std::path::Path::new("start4.elf"), "inside");
    assert_eq!(site.gets("inside"), "start4.elf");
    for name in [
        "../secret",
        "/../secret",
        "sub/../../secret",
        "9ffefdef/../secret",
        "..",
        ".secret",
        "sub/.hidden",
        "./start4.elf",
        "..\\secret",
        "sub\\..\\secret",
        "x/../../etc/passwd",
    ] {
        assert_eq!(site.get(name), Err(Refusal::Denied), "{name}");
    }
    for name in ["absolute", "relative", "9ffefdef/secret", "/etc/passwd", "rack/absolute"] {
        assert_eq!(site.get(name), Err(Refusal::NotFound), "{name}");
    }
}

struct Shout;

impl Rendering for Shout {
    fn refuses(&self, who: Identity) -> bool {
        who.serial == Some(PiSerial(0xdead_0001))
    }

    fn render(&self, who: Identity, text: Text, shared: &[u8]) -> Option<Vec<u8>> {
        (text == Text::CommandLine)
            .then(|| format!("{who}: {}", String::from_utf8_lossy(shared)).into_bytes())
    }
}

#[test]
fn shared_text_is_rendered_and_own_text_is_not() {
    let site =
        site_with(&["cmdline.txt", "config.txt", "12345678/cmdline.txt", "sub/cmdline.txt"], Arc::new(Shout));
    assert_eq!(site.gets("9ffefdef/cmdline.txt"), "9ffefdef: cmdline.txt");
    assert_eq!(site.get("dead0001/cmdline.txt"), Err(Refusal::NotFound), "it is to go on without us");
    assert_eq!(site.gets("9ffefdef/config.txt"), "config.txt");
    assert_eq!(site.gets("12345678/cmdline.txt"), "12345678/cmdline.txt");
    assert_eq!(site.gets("9ffefdef/sub/cmdline.txt"), "sub/cmdline.txt");
}

#[test]
fn a_missing_folder_is_told() {
    let error = BootTree::open(Path::new("/nonexistent"), Arc::default(), Arc::new(AsTheyAre)).err().unwrap();
    assert!(format!("{error:#}").contains("--tftp-root"), "{error:#}");
}
