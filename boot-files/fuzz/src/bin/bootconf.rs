//! `bootconf.txt`: read, checked, and with a plan's settings put into it.
#![no_main]

use boot_files::eeprom::board::Board;
use boot_files::eeprom::config::Config;
use boot_files::eeprom::config_check::check;
use boot_files::eeprom::plan::settings::{Wanted, make, safe_order};

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let Ok(config) = Config::parse(bytes) else { return };
    let _ = check(&config, None);
    for board in Board::ALL {
        let _ = check(&config, Some(board));
        let wanted = Wanted {
            order: safe_order(board),
            host: "192.0.2.1".to_owned(),
            port: None,
            path: None,
            certificate_hash: None,
        };
        let Ok(made) = make(bytes, &wanted) else { continue };
        let made = Config::parse(made.as_bytes()).expect("a plan's settings can be read");
        assert_eq!(made.value(Some(board), "HTTP_HOST"), Some("192.0.2.1"));
        assert_eq!(made.value(Some(board), "BOOT_ORDER"), Some(wanted.order.to_string().as_str()));
    }
});
