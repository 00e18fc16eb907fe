//! A record of the kernel's log, to a message of syslog.
#![no_main]

use init::pid1::kernel_log::record::Record;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    if let Some(record) = Record::parse(bytes) {
        assert!(!record.message("host").contains(char::is_control));
    }
});
