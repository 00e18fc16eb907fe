//! The boot server's page in headless Chromium, and a Pi that boots while somebody looks.

use crate::site::{Images, Server, images, wait_console};
use crate::webdriver::Driver;

tests![somebody_sees_a_pi_boot_assigns_an_image_and_sees_it_boot];

const SERIAL: &str = "10000000abcdef01";
const PASSWORD: &str = "correct horse battery";

/// Screenshots go to `target/screenshots`.
fn somebody_sees_a_pi_boot_assigns_an_image_and_sees_it_boot() {
    let server = Server::with_page("anna", PASSWORD);
    server.put_os(&Images::get().tiny);
    let driver = Driver::start();
    let url = |path: &str| format!("http://127.0.0.1:{}{path}", server.port);
    driver.open(&url("/ui/"));
    driver.write("#name", "anna");
    driver.write("#password", PASSWORD);
    driver.click("button.primary");
    driver.wait("the page is live", "document.getElementById('live')?.textContent === 'live'");
    driver.script("window.notReloaded = true");

    let machine = server.power_on(&format!("lifeboat.server={}", server.url("")));
    let row = format!("document.getElementById('device-{SERIAL}')?.innerText ?? ''");
    driver.wait("the Pi appears while it boots", &format!("{row}.includes('{SERIAL}')"));
    driver.wait("it comes to its rescue", &format!("/rescue/.test({row})"));
    driver.wait("all on one page", "window.notReloaded");
    let shot = |name: &str| {
        let folder = images::folder().with_file_name("screenshots");
        std::fs::create_dir_all(&folder).unwrap();
        std::fs::write(folder.join(name), driver.screenshot()).unwrap();
    };
    shot("real-rescue.png");

    driver.click(&format!("#device-{SERIAL} a"));
    driver.wait("the device's page is live", "document.getElementById('live')?.textContent === 'live'");
    driver.script("document.getElementById('image').value = 'tiny.squashfs'");
    driver.click("form.action button.primary");
    driver
        .wait("the order is shown", "document.getElementById('orders')?.innerText.includes('tiny.squashfs')");
    // In its rescue it asks the server again each minute.
    let state = "document.getElementById('state').innerText";
    driver.wait("it goes on by itself", &format!("/fetch|mount|overlay|hand-over/.test({state})"));
    driver.wait("the OS is handed over to", &format!("/hand-over/.test({state})"));
    // Of the steps between, some may be missing: events are lossy, and this image is small.
    let timeline = "document.getElementById('timeline').innerText";
    driver.wait("the timeline has it", &format!("/network[^]*hand-over/.test({timeline})"));
    wait_console(&machine, "TEST-OS end");
    shot("real-ram-boot.png");
    assert_eq!(driver.complaints(), Vec::<String>::new());
}
