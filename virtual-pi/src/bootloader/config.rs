//! `config.txt`: which settings hold for this Pi.

use std::collections::BTreeMap;

use super::log::Log;
use crate::board::Pi;

/// Characters of a line past this are ignored by the firmware.
const LINE_LIMIT: usize = 98;
/// How deep `include` may nest.
const INCLUDE_DEPTH: u8 = 8;
/// How many files `include` may name in all.
const INCLUDE_COUNT: u16 = 64;

/// Keys that are known and have no effect here, so that nobody is told that they are unknown.
const WITHOUT_EFFECT: &[&str] = &[
    "arm_boost",
    "arm_freq",
    "audio_pwm_mode",
    "avoid_warnings",
    "boot_delay",
    "bootloader_update",
    "camera_auto_detect",
    "device_tree_address",
    "device_tree_end",
    "disable_fw_kms_setup",
    "disable_overscan",
    "disable_splash",
    "disable_touchscreen",
    "display_auto_detect",
    "dtdebug",
    "dtoverlay",
    "dtparam",
    "enable_gic",
    "enable_uart",
    "force_turbo",
    "gpio",
    "hdmi_blanking",
    "hdmi_drive",
    "hdmi_force_hotplug",
    "hdmi_group",
    "hdmi_mode",
    "init_uart_baud",
    "init_uart_clock",
    "kernel_watchdog_partition",
    "kernel_watchdog_timeout",
    "max_framebuffers",
    "max_usb_current",
    "otg_mode",
    "over_voltage",
    "ramfsaddr",
    "temp_limit",
    "total_mem",
    "uart_2ndstage",
    "upstream_kernel",
    "usb_max_current_enable",
    "watchdog_timeout",
];
/// Keys that [`super::firmware`] or [`super::network`] reads.
const WITH_EFFECT: &[&str] = &[
    "arm_64bit",
    "auto_initramfs",
    "boot_ramdisk",
    "cmdline",
    "device_tree",
    "fixup_file",
    "kernel",
    "os_prefix",
    "ramfsfile",
    "start_file",
    "gpu_mem",
    "start_debug",
    "start_x",
];

/// Gives the file that `include` names, if there is one.
type Open<'a> = dyn FnMut(&str, &mut Log) -> Option<Vec<u8>> + 'a;

/// The settings of one Pi.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Config {
    values: BTreeMap<String, String>,
    /// The files of the last `initramfs` line that holds.
    pub initramfs: Option<Vec<String>>,
    /// The overlays that would be applied.
    pub overlays: Vec<String>,
}

impl Config {
    /// Parses a file for `pi`. `open` gives the files that `include` names.
    pub fn parse(text: &[u8], pi: &Pi, open: &mut Open<'_>, log: &mut Log) -> Self {
        let mut parser =
            Parser { pi, open, log, config: Self::default(), filters: Filters::default(), includes: 0 };
        parser.file(text, 0);
        parser.config
    }

    /// A setting's value; the last one wins.
    pub fn get(&self, key: &str) -> Option<&str> {
        self.values.get(key).map(String::as_str)
    }

    /// A number, or a file's `0`/`1`.
    pub fn number(&self, key: &str) -> Option<u64> {
        self.get(key)?.parse().ok()
    }
}

/// Which kinds of filters hold. A filter replaces the one of its own kind, and kinds combine until `[all]`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Filters {
    none: bool,
    model: bool,
    board_type: bool,
    serial: bool,
    other: bool,
}

impl Default for Filters {
    fn default() -> Self {
        Self { none: true, model: true, board_type: true, serial: true, other: true }
    }
}

impl Filters {
    fn hold(self) -> bool {
        let Self { none, model, board_type, serial, other } = self;
        none && model && board_type && serial && other
    }

    /// Applies `[name]`; gives `false` when it is not known.
    fn apply(&mut self, name: &str, pi: &Pi) -> bool {
        if name == "all" {
            *self = Self::default();
        } else if name == "none" {
            self.none = false;
        } else if let Some(matches) = pi.board.matches_filter(name) {
            self.model = matches;
        } else if let Some(number) = name.strip_prefix("board-type=") {
            self.board_type = hex(number) == Some(pi.board.board_type().into());
        } else if let Some(number) = hex(name) {
            self.serial = number == pi.serial.0 & 0xffff_ffff || number == pi.serial.0;
        } else {
            // No try-boot, no monitor, no GPIO is pulled, no partition was chosen.
            self.other = false;
            let known = [
                "tryboot",
                "edid=",
                "hdmi:",
                "gpio",
                "partition=",
                "boot_partition=",
                "boot_count",
                "boot_arg",
            ];
            return known.iter().any(|start| name.starts_with(start));
        }
        true
    }
}

fn hex(text: &str) -> Option<u64> {
    u64::from_str_radix(text.strip_prefix("0x")?, 16).ok()
}

struct Parser<'a> {
    pi: &'a Pi,
    open: &'a mut Open<'a>,
    log: &'a mut Log,
    config: Config,
    filters: Filters,
    includes: u16,
}

impl Parser<'_> {
    fn file(&mut self, text: &[u8], depth: u8) {
        if !text.is_ascii() {
            self.log.note("config.txt has bytes that are not ASCII; a real Pi has been seen to ignore what follows the first");
        }
        for line in String::from_utf8_lossy(text).lines() {
            let line = line.trim();
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            self.line(line, depth);
        }
    }

    fn line(&mut self, line: &str, depth: u8) {
        let short: String = line.chars().take(LINE_LIMIT).collect();
        if short.len() < line.len() {
            self.log.note(format_args!("config.txt: a line is cut after {LINE_LIMIT} characters: {short}"));
        }
        if let Some(name) = short.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
            if !self.filters.apply(&name.trim().to_ascii_lowercase(), self.pi) {
                self.log.note(format_args!(
                    "config.txt: the filter [{name}] is not known; what follows is skipped"
                ));
            }
        } else if self.filters.hold() {
            self.setting(&short, depth);
        }
    }

    fn setting(&mut self, line: &str, depth: u8) {
        match line.split_once(char::is_whitespace) {
            Some(("include", file)) => return self.include(file.trim(), depth),
            Some(("initramfs", rest)) => {
                let files = rest.split_whitespace().next().unwrap_or_default();
                self.config.initramfs =
                    Some(files.split(',').filter(|f| !f.is_empty()).map(str::to_owned).collect());
                return;
            }
            _ => {}
        }
        let Some((key, value)) = line.split_once('=') else {
            return self.log.note(format_args!("config.txt: {line:?} is no setting; it is ignored"));
        };
        let (key, value) = (key.trim().to_ascii_lowercase(), value.trim());
        match key.as_str() {
            "initramfs" => self.log.note("config.txt: initramfs takes no =; the line is ignored"),
            "dtoverlay" if !value.is_empty() => {
                self.config.overlays.push(value.split(',').next().unwrap_or_default().to_owned())
            }
            _ => {
                let known = WITH_EFFECT.contains(&key.as_str()) || WITHOUT_EFFECT.contains(&key.as_str());
                if !known {
                    self.log.note(format_args!(
                        "config.txt: {key} is not known here; it is kept and has no effect"
                    ));
                }
                self.config.values.insert(key, value.to_owned());
            }
        }
    }

    fn include(&mut self, file: &str, depth: u8) {
        self.includes += 1;
        if depth >= INCLUDE_DEPTH || self.includes > INCLUDE_COUNT {
            return self
                .log
                .note(format_args!("config.txt: include {file}: too many or too deep; it is ignored"));
        }
        match (self.open)(file, self.log) {
            Some(text) => self.file(&text, depth + 1),
            None => self.log.note(format_args!("config.txt: include {file}: there is no such file")),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::board::{Board, Serial};

    fn parse(board: Board, text: &str) -> Config {
        let pi = Pi::new(board, Serial(0x1000_0000_dead_beef), 1024);
        let mut open = |name: &str, _: &mut Log| {
            (name == "more.txt").then(|| b"kernel=more.img\ninclude more.txt".to_vec())
        };
        Config::parse(text.as_bytes(), &pi, &mut open, &mut Log::new(std::io::sink()))
    }

    fn kernel(board: Board, text: &str) -> Option<String> {
        parse(board, text).get("kernel").map(str::to_owned)
    }

    #[test]
    fn settings() {
        let config = parse(
            Board::Pi4B,
            "# a comment\r\n arm_64bit = 1 \r\nkernel=a\nKERNEL=b\ninitramfs x,y followkernel\ndtoverlay=disable-bt,on=1\n\nnonsense\n",
        );
        assert_eq!((config.get("arm_64bit"), config.get("kernel")), (Some("1"), Some("b")));
        assert_eq!(config.initramfs.unwrap(), ["x", "y"]);
        assert_eq!(config.overlays, ["disable-bt"]);
        assert_eq!(parse(Board::Pi4B, "initramfs=x followkernel").initramfs, None);
    }

    #[test]
    fn filters() {
        for (text, on_4b, on_cm4) in [
            ("[pi4]\nkernel=x", true, true),
            ("[cm4]\nkernel=x", false, true),
            ("[pi5]\nkernel=x", false, false),
            ("[pi400]\nkernel=x", false, false),
            ("[board-type=0x11]\nkernel=x", true, false),
            ("[board-type=0x14]\nkernel=x", false, true),
            ("[0xdeadbeef]\nkernel=x", true, true),
            ("[0xdeadbeee]\nkernel=x", false, false),
            ("[none]\nkernel=x", false, false),
            ("[none]\n[all]\nkernel=x", true, true),
            ("[none]\n[pi4]\nkernel=x", false, false),
            ("[pi5]\n[pi4]\nkernel=x", true, true),
            ("[cm4]\n[0xdeadbeef]\nkernel=x", false, true),
            ("[tryboot]\nkernel=x", false, false),
            ("[tryboot]\n[all]\nkernel=x", true, true),
            ("[gpio4=1]\nkernel=x", false, false),
            ("[what]\nkernel=x", false, false),
            ("[PI4]\nkernel=x", true, true),
        ] {
            assert_eq!(kernel(Board::Pi4B, text).is_some(), on_4b, "4B: {text}");
            assert_eq!(kernel(Board::Cm4, text).is_some(), on_cm4, "CM4: {text}");
        }
    }

    #[test]
    fn long_lines_are_cut_and_includes_end() {
        let long = format!("kernel={}", "x".repeat(200));
        assert_eq!(kernel(Board::Pi4B, &long).unwrap().len(), LINE_LIMIT - "kernel=".len());
        assert_eq!(kernel(Board::Pi4B, "include more.txt\ninclude none.txt").unwrap(), "more.img");
    }

    proptest! {
        #[test]
        fn any_text_is_read(text in "(\\[|\\]|=|\n|#|pi4|all|0x|include more.txt|initramfs |\\PC){0,40}") {
            let config = parse(Board::Pi4B, &text);
            prop_assert!(config.values.len() <= text.len());
        }
    }
}
