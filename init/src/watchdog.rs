//! The hardware watchdog: what the command line says of it, and whether an OS feeds it by itself.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::cmdline::CommandLine;

/// `lifeboat.watchdog=`: what is done with the hardware watchdog.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Policy {
    /// It is fed, and at a hand-over left running for an OS that feeds it.
    #[default]
    On,
    /// Nobody opens it.
    Off,
    /// It is fed, and at a hand-over left running, whatever the OS' configuration says.
    Keep,
}

impl Policy {
    /// Reads a value.
    ///
    /// # Errors
    /// What there is, for a human.
    pub fn parse(value: &str) -> Result<Self, String> {
        match value {
            "on" => Ok(Policy::On),
            "off" => Ok(Policy::Off),
            "keep" => Ok(Policy::Keep),
            _ => Err("it is on, off or keep".into()),
        }
    }
}

/// Where systemd looks for `system.conf` and the folder `system.conf.d`, the most important first
/// (systemd-system.conf(5)).
const FOLDERS: [&str; 4] = ["etc/systemd", "run/systemd", "usr/local/lib/systemd", "usr/lib/systemd"];
/// No configuration file is read further.
const LIMIT: u64 = 256 << 10;
/// What the file says is set by this word there, and by the other on the command line (kernel-command-line(7)).
const SETTING: &str = "RuntimeWatchdogSec";
const PARAMETER: &str = "systemd.watchdog_sec";

/// Whether the OS in `root`, whose first program is `init`, feeds the watchdog: it is systemd, and its configuration or the
/// command line tells it to. Links that lead out of `root` are not followed as the OS would; then the answer is no.
pub fn is_fed_by(root: &Path, init: &str, command_line: &CommandLine) -> bool {
    let init = root.join(init.trim_start_matches('/'));
    let program = std::fs::read_link(&init).unwrap_or(init);
    if !program.ends_with("lib/systemd/systemd") {
        return false;
    }
    let by_file = configuration(root).iter().filter_map(|text| setting(text)).next_back();
    let by_word = command_line.all(PARAMETER).filter_map(is_on).last();
    by_word.or(by_file).unwrap_or(false)
}

/// The texts of its configuration in the order in which systemd reads them: the main file, then the drop-ins by their
/// names. Of several with one name the most important counts.
fn configuration(root: &Path) -> Vec<String> {
    let folders = FOLDERS.map(|folder| root.join(folder));
    let main = folders.iter().map(|folder| folder.join("system.conf")).find(|path| path.exists());
    let mut drop_ins: Vec<PathBuf> = Vec::new();
    for folder in &folders {
        for entry in std::fs::read_dir(folder.join("system.conf.d")).into_iter().flatten().flatten() {
            let path = entry.path();
            let is_new = drop_ins.iter().all(|other| other.file_name() != path.file_name());
            if is_new && path.extension().is_some_and(|extension| extension == "conf") {
                drop_ins.push(path);
            }
        }
    }
    drop_ins.sort_by(|one, other| one.file_name().cmp(&other.file_name()));
    main.into_iter().chain(drop_ins).filter_map(|path| read(&path)).collect()
}

fn read(path: &Path) -> Option<String> {
    use std::io::Read;
    let mut bytes = Vec::new();
    std::fs::File::open(path).ok()?.take(LIMIT).read_to_end(&mut bytes).ok()?;
    Some(String::from_utf8_lossy(&bytes).into_owned())
}

/// What the last `RuntimeWatchdogSec=` of a file's section `[Manager]` says (systemd.syntax(7)); `None`: nothing that
/// systemd would take.
pub fn setting(text: &str) -> Option<bool> {
    let mut section = "";
    let mut found = None;
    for line in text.lines().map(str::trim).filter(|line| !line.starts_with(['#', ';'])) {
        if let Some(name) = line.strip_prefix('[').and_then(|line| line.strip_suffix(']')) {
            section = name;
        } else if let Some((name, value)) = line.split_once('=')
            && section == "Manager"
            && name.trim() == SETTING
        {
            found = is_on(value.trim()).or(found);
        }
    }
    found
}

/// Whether a time span is one that the watchdog runs with; `None`: it is no time span.
fn is_on(value: &str) -> Option<bool> {
    match value {
        // `default` is the driver's own time.
        "default" | "infinity" => Some(true),
        "off" | "" => Some(false),
        _ => is_longer_than_zero(value),
    }
}

/// Reads a time span as systemd.time(7) has it: figures, each with a unit or without, as in `1min 30s` or `0.5`.
fn is_longer_than_zero(text: &str) -> Option<bool> {
    const UNITS: [&str; 31] = [
        "", "us", "µs", "μs", "usec", "ms", "msec", "s", "sec", "second", "seconds", "m", "min", "minute",
        "minutes", "h", "hr", "hour", "hours", "d", "day", "days", "w", "week", "weeks", "M", "month",
        "months", "y", "year", "years",
    ];
    let mut longer = false;
    let mut rest = text.trim();
    while !rest.is_empty() {
        let figures = rest.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(rest.len());
        let (figure, after) = rest.split_at(figures);
        let is_figure = figure.bytes().any(|byte| byte.is_ascii_digit()) && figure.matches('.').count() <= 1;
        let after = after.trim_start();
        let unit_end = after.find(|c: char| c.is_ascii_digit() || c.is_whitespace()).unwrap_or(after.len());
        let (unit, after) = after.split_at(unit_end);
        if !is_figure || !UNITS.contains(&unit) {
            return None;
        }
        longer |= figure.bytes().any(|byte| (b'1'..=b'9').contains(&byte));
        rest = after.trim_start();
    }
    Some(longer)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn time_spans_as_systemd_reads_them() {
        for (text, on) in [
            ("30", Some(true)),
            ("1min 30s", Some(true)),
            ("1m", Some(true)),
            ("0.5", Some(true)),
            ("2 hours", Some(true)),
            ("default", Some(true)),
            ("infinity", Some(true)),
            ("0", Some(false)),
            ("0s", Some(false)),
            ("0 min", Some(false)),
            ("off", Some(false)),
            ("", Some(false)),
            ("10 parsecs", None),
            ("soon", None),
            ("1..5", None),
            (".", None),
            ("-1", None),
        ] {
            assert_eq!(is_on(text), on, "{text:?}");
        }
    }

    #[test]
    fn the_last_word_of_the_right_section_counts() {
        for (text, on) in [
            ("[Manager]\n#RuntimeWatchdogSec=0\n RuntimeWatchdogSec = 10\n", Some(true)),
            ("[Manager]\nRuntimeWatchdogSec=10\nRuntimeWatchdogSec=off\n", Some(false)),
            ("[Manager]\nRuntimeWatchdogSec=10\nRuntimeWatchdogSec=often\n", Some(true)),
            ("[Login]\nRuntimeWatchdogSec=10\n", None),
            ("RuntimeWatchdogSec=10\n[Manager]\nRebootWatchdogSec=10\n", None),
        ] {
            assert_eq!(setting(text), on, "{text:?}");
        }
    }

    #[test]
    fn files_command_line_and_init_decide_together() {
        let root = tempfile::tempdir().unwrap();
        let put = |path: &str, text: &str| {
            let path = root.path().join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        };
        let fed = |init: &str, words: &str| is_fed_by(root.path(), init, &CommandLine::parse(words));
        put("usr/lib/systemd/systemd", "");
        put("sbin/openrc", "");
        std::os::unix::fs::symlink("../lib/systemd/systemd", root.path().join("sbin/init")).unwrap();
        assert!(!fed("/sbin/init", "quiet"), "its default is off");
        assert!(fed("/sbin/init", "systemd.watchdog_sec=20"));
        assert!(!fed("/sbin/openrc", "systemd.watchdog_sec=20"));
        put(
            "usr/lib/systemd/system.conf.d/40-rpi-enable-watchdog.conf",
            "[Manager]\nRuntimeWatchdogSec=1m\n",
        );
        assert!(fed("/sbin/init", "quiet") && fed("/usr/lib/systemd/systemd", ""));
        assert!(!fed("/sbin/init", "systemd.watchdog_sec=0"));
        put("etc/systemd/system.conf", "[Manager]\nRuntimeWatchdogSec=off\n");
        assert!(fed("/sbin/init", ""), "a drop-in beats the main file");
        put("etc/systemd/system.conf.d/40-rpi-enable-watchdog.conf", "");
        assert!(!fed("/sbin/init", ""), "one of the same name in /etc hides it");
        put("run/systemd/system.conf.d/50.txt", "[Manager]\nRuntimeWatchdogSec=1m\n");
        assert!(!fed("/sbin/init", ""));
    }

    proptest! {
        #[test]
        fn no_text_panics(text in "(\\[Manager\\]\nRuntimeWatchdogSec=)?(?s).{0,200}") {
            setting(&text);
        }

        #[test]
        fn a_figure_with_any_unit_is_read(figure in 1_u32..1000, unit in "(|s|min|h)") {
            prop_assert_eq!(is_on(&format!("{figure}{unit}")), Some(true));
            prop_assert_eq!(is_on(&format!("0{unit} {figure} {unit}")), Some(true));
        }
    }
}
