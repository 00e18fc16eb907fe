//! Records for people: seconds since the kernel's start, level, message.

use super::record::{Level, Record};

const BOLD: &str = "\x1b[1m";
const RED: &str = "\x1b[31m";
const YELLOW: &str = "\x1b[33m";
const FAINT: &str = "\x1b[2m";
const PLAIN: &str = "\x1b[0m";

/// One line, with its newline.
pub fn line(record: &Record, colour: bool) -> String {
    let (seconds, rest) = (record.time_us / 1_000_000, record.time_us % 1_000_000 / 1000);
    let (level, message) = (record.level.name(), &record.message);
    let paint = match record.level {
        _ if !colour => "",
        Level::Emerg | Level::Alert | Level::Crit | Level::Err => RED,
        Level::Warn => YELLOW,
        Level::Debug => FAINT,
        // What we say ourselves is what most people look for.
        _ if !record.is_kernel() => BOLD,
        _ => "",
    };
    let plain = if paint.is_empty() { "" } else { PLAIN };
    format!("{seconds:6}.{rest:03} {level:<6} {paint}{message}{plain}\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_has_time_level_and_message() {
        let record = Record::parse("3,1,12345678,-;mmc0: error -110").unwrap();
        assert_eq!(line(&record, false), "    12.345 err    mmc0: error -110\n");
        assert_eq!(line(&record, true), "    12.345 err    \x1b[31mmmc0: error -110\x1b[0m\n");
    }
}
