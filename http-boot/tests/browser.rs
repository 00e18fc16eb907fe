//! The page in headless Chromium: somebody logs in, sees a Pi go through its steps without loading the page again, and
//! assigns an image. Screenshots go to `target/screenshots/`; two of them are in `docs/images/`.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, reason = "a test may panic")]

mod page;
mod webdriver;

use std::fs;

use page::{Folders, PASSWORD, Server};
use serde_json::{Value, json};
use webdriver::Driver;

const PI: &str = "10000000deadbeef";
const MIB: u64 = 1 << 20;

/// A boot's events, as a Pi sends them.
struct Boot<'a> {
    server: &'a Server,
    serial: &'a str,
    boot: &'a str,
    sequence: u64,
}

impl<'a> Boot<'a> {
    fn new(server: &'a Server, serial: &'a str, boot: &'a str) -> Self {
        Self { server, serial, boot, sequence: 0 }
    }

    fn say(&mut self, ms: u64, step: &str, state: &str, more: &Value) {
        self.sequence += 1;
        let mut event = json!({"boot_id": self.boot, "sequence": self.sequence, "uptime_ms": ms, "step": step, "state": state});
        event.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        self.server.event(self.serial, &event);
    }

    /// The steps up to the network.
    fn begin(&mut self) {
        let facts = json!({"model": "Raspberry Pi 4 Model B Rev 1.4", "bootloader": "2026-09-23T13:02:56Z (release)"});
        self.say(1900, "console", "done", &facts);
        for (began, done, step) in
            [(1930, 2020, "filesystems"), (2030, 2060, "plan"), (2080, 2900, "usr"), (2950, 4300, "modules")]
        {
            self.say(began, step, "started", &json!({}));
            self.say(done, step, "done", &json!({}));
        }
        self.say(4310, "network", "started", &json!({}));
        let facts = json!({"addresses": ["192.0.2.17/24", "fe80::dea6:32ff:fe01:203/64"], "host_key": "SHA256:uX3bqkKq2mP0pYcW9Vj4sYxw8Zt1nB5rQe7aLd6fGhI"});
        self.say(7950, "network", "done", &facts);
    }

    fn fetch(&mut self, ms: u64, percent: u64) {
        let progress =
            json!({"progress": {"bytes": 4 * MIB * percent, "total": 400 * MIB, "rate": 11 * MIB}});
        self.say(ms, "fetch", "progress", &progress);
    }

    fn boot_to_ram(&mut self) {
        self.begin();
        self.say(8000, "manifest", "done", &json!({}));
        self.say(8010, "fetch", "started", &json!({}));
        self.fetch(30_000, 60);
        self.say(44_800, "fetch", "done", &json!({}));
        self.say(44_900, "mount", "done", &json!({}));
        self.say(45_300, "overlay", "done", &json!({}));
        self.say(45_900, "hand-over", "done", &json!({}));
    }
}

/// Other devices, in all states.
fn neighbours(server: &Server) {
    Boot::new(server, "10000000a3f1c220", "n1").boot_to_ram();
    let mut failing = Boot::new(server, "10000000b7e9d041", "n2");
    failing.begin();
    let error = json!({"error": "http://192.0.2.1/os/debian.squashfs: the server answers 404 Not Found", "retry_in_s": 16});
    failing.say(8100, "manifest", "failed", &error);
    let mut waiting = Boot::new(server, "10000000c0ffee42", "n3");
    waiting.say(1900, "console", "done", &json!({"model": "Raspberry Pi Compute Module 4 Rev 1.1"}));
    waiting.say(4300, "network", "waiting", &json!({"error": "no DHCP server answers on eth0"}));
    let mut unlocking = Boot::new(server, "1000000021d4e5f6", "n4");
    unlocking.begin();
    unlocking.say(9000, "unlock", "waiting", &json!({}));
}

fn log_in(driver: &Driver, server: &Server) {
    driver.open(&server.url("/ui/"));
    driver.write("#name", "anna");
    driver.write("#password", PASSWORD);
    driver.click("button.primary");
    driver.wait("the list comes after the login", "document.title.startsWith('Devices')");
    driver.wait("the page is live", "document.getElementById('live').textContent === 'live'");
}

#[test]
fn somebody_sees_a_pi_boot_and_assigns_an_image() {
    let folders = Folders::new();
    folders.add("anna", "operate");
    folders.image("os/debian.squashfs");
    let server = folders.serve(&[]);
    let driver = Driver::start();
    log_in(&driver, &server);
    driver.script("window.notReloaded = true");

    let mut boot = Boot::new(&server, PI, "5d1c8a52-first");
    boot.begin();
    let row = format!("document.getElementById('device-{PI}')?.innerText ?? ''");
    driver.wait("a Pi that was not there appears", &format!("/network\\s+done/.test({row})"));
    boot.fetch(12_000, 25);
    driver.wait("its progress is seen", &format!("{row}.includes('25% of 400.0 MiB')"));
    boot.fetch(20_000, 50);
    let bar = format!("document.querySelector('#device-{PI} progress')?.value");
    driver.wait("the bar goes on", &format!("{bar} === 50"));
    boot.say(21_000, "fetch", "failed", &json!({"error": "no route to host", "retry_in_s": 4}));
    driver.wait("an error is seen", &format!("{row}.includes('no route to host')"));
    driver.wait("it was one page all the time", "window.notReloaded");

    driver.click(&format!("#device-{PI} a"));
    driver.wait("the device's page is live", "document.getElementById('live')?.textContent === 'live'");
    boot.say(25_000, "fetch", "started", &json!({}));
    driver.wait("the state goes on", "/fetch\\s+started/.test(document.getElementById('state').innerText)");
    driver.wait("so does the log", "/fetch\\s+started/.test(document.querySelector('#log li').innerText)");
    driver
        .wait("the timeline has the step", "document.getElementById('timeline').innerText.includes('fetch')");

    driver.script("document.getElementById('image').value = 'os/debian.squashfs'");
    driver.click("form.action button.primary");
    driver.wait(
        "the order is shown",
        "document.getElementById('orders')?.innerText.includes('os/debian.squashfs')",
    );
    let plan = server.get(&format!("/v1/boot/{PI}")).json();
    assert_eq!(plan["parameters"], format!("root=live:http://{}/os/debian.squashfs", server.address));

    let mut second = Boot::new(&server, PI, "9be07f31-second");
    second.boot_to_ram();
    driver.wait(
        "the next boot is seen",
        "/hand-over\\s+done/.test(document.getElementById('state').innerText)",
    );
    assert_eq!(driver.complaints(), Vec::<String>::new());
}

/// The contrast of each text with what is behind it (WCAG 2.2, 1.4.3), what lies outside of the window, and fields that
/// have no label.
const FLAWS: &str = r"
  const flaws = [];
  const parse = (colour) => colour.match(/[\d.]+/g).map(Number);
  const light = ([r, g, b]) => {
    const part = (v) => (v /= 255) <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4;
    return 0.2126 * part(r) + 0.7152 * part(g) + 0.0722 * part(b);
  };
  const behind = (element) => {
    for (let e = element; e; e = e.parentElement) {
      const colour = parse(getComputedStyle(e).backgroundColor);
      if (colour.length === 3 || colour[3] === 1) return colour;
    }
    return [255, 255, 255];
  };
  for (const element of document.body.querySelectorAll('*')) {
    const own = [...element.childNodes].some((n) => n.nodeType === Node.TEXT_NODE && n.textContent.trim());
    if (!own || !element.checkVisibility()) continue;
    const [a, b] = [light(parse(getComputedStyle(element).color)), light(behind(element))];
    const contrast = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
    if (contrast < 4.5) flaws.push(`contrast ${contrast.toFixed(2)}: ${element.className} ${element.textContent}`);
  }
  for (const box of [document.documentElement, ...document.querySelectorAll('section')]) {
    if (box.scrollWidth > box.clientWidth) flaws.push(`${box.scrollWidth} wide in ${box.clientWidth}: ${box.innerText}`);
  }
  for (const field of document.querySelectorAll('input:not([type=hidden]), select, textarea')) {
    if (!field.labels.length) flaws.push(`no label: ${field.name}`);
  }
  for (const table of document.querySelectorAll('table')) {
    if ([...table.querySelectorAll('th')].some((th) => !th.scope)) flaws.push('a header without scope');
  }
  return flaws;
";

#[test]
fn it_is_readable_on_a_phone_and_in_the_dark() {
    let folders = Folders::new();
    folders.add("anna", "operate");
    folders.image("os/debian.squashfs");
    folders.image("os/kiosk.squashfs");
    let server = folders.serve(&[]);
    neighbours(&server);
    Boot::new(&server, PI, "5d1c8a52-first").boot_to_ram();
    let mut second = Boot::new(&server, PI, "9be07f31-second");
    second.begin();
    second.say(8000, "manifest", "done", &json!({}));
    second.say(8010, "fetch", "started", &json!({}));
    second.fetch(12_000, 12);
    second.say(15_000, "fetch", "failed", &json!({"error": "the connection was reset", "retry_in_s": 2}));
    second.fetch(24_000, 62);

    let shots = page::target().join("screenshots");
    fs::create_dir_all(&shots).unwrap();
    let driver = Driver::start();
    driver.open(&server.url("/ui/login"));
    fs::write(shots.join("login.png"), driver.screenshot()).unwrap();
    log_in(&driver, &server);
    let device = format!("/ui/devices/{PI}");
    driver.open(&server.url(&device));
    driver.script("document.getElementById('image').value = 'os/debian.squashfs'");
    driver.click("form.action button.primary");
    for (device_name, width, height, is_phone) in [("desktop", 1280, 800, false), ("phone", 390, 844, true)] {
        for scheme in ["light", "dark"] {
            driver.size(width, height, is_phone);
            driver.scheme(scheme);
            for (name, path) in [
                ("devices", "/ui/"),
                ("device", &device),
                ("images", "/ui/images"),
                ("audit", "/ui/audit"),
                ("login", "/ui/login"),
            ] {
                driver.open(&server.url(path));
                let place = format!("{name} ({device_name}, {scheme})");
                assert_eq!(driver.script(FLAWS), json!([]), "{place}");
                fs::write(shots.join(format!("{name}-{device_name}-{scheme}.png")), driver.screenshot())
                    .unwrap();
            }
        }
    }
    assert_eq!(driver.complaints(), Vec::<String>::new());
}
