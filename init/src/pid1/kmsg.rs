//! Where messages go: `/dev/kmsg`, from where the kernel carries them to every console; and the console itself where
//! the kernel's log level keeps them from it (`quiet`). No message may vanish: what cannot be written to `/dev/kmsg` goes to
//! standard error, which PID 1 got as `/dev/console`.

use std::fmt::{self, Write as _};
use std::fs::{File, OpenOptions};
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt;

use tracing::field::{Field, Visit};
use tracing::{Level, Metadata, Subscriber, span};

/// The kernel cuts a record's text there (`kernel/printk/printk.c`, `PRINTKRB_RECORD_MAX` less its prefix).
const RECORD_LIMIT: usize = 976;

/// Sends this process's events to `/dev/kmsg`, each as one record `NAME: message`.
pub fn start(name: &'static str) {
    let kmsg = OpenOptions::new().write(true).open("/dev/kmsg").ok();
    // Only one subscriber is ever set in a process; a second call would keep the first.
    let _ = tracing::subscriber::set_global_default(Kmsg { name, kmsg });
}

struct Kmsg {
    name: &'static str,
    kmsg: Option<File>,
}

impl Kmsg {
    fn write(&self, level: Level, text: &str) {
        let priority = match level {
            Level::ERROR => 3,
            Level::WARN => 4,
            Level::INFO => 5,
            _ => 7,
        };
        let mut record = format!("<{priority}>{}: {}", self.name, text.replace('\n', " "));
        record.truncate(record.floor_char_boundary(RECORD_LIMIT - 1));
        // Without it the kernel keeps the record open for more, and shows it only with the next one.
        record.push('\n');
        let written = self.kmsg.as_ref().is_some_and(|mut kmsg| kmsg.write_all(record.as_bytes()).is_ok());
        if !written {
            // Not eprintln!: it panics where a console is gone, and PID 1 must not.
            let _ = writeln!(std::io::stderr(), "{}: {text}", self.name);
        } else if priority >= console_log_level() && priority < 7 {
            write_console(&format!("{}: {text}\n", self.name));
        }
    }
}

/// Writes text to the console alone, for lines that are no log: a progress line, the banner.
pub fn write_console(text: &str) {
    // A terminal that was stopped (Ctrl-S) must not stop us.
    let flags = rustix::fs::OFlags::NONBLOCK | rustix::fs::OFlags::NOCTTY;
    let console = OpenOptions::new().write(true).custom_flags(flags.bits() as i32).open("/dev/console");
    // What does not fit is dropped: /dev/kmsg has it.
    let _ = console.and_then(|mut console| console.write_all(text.replace('\n', "\r\n").as_bytes()));
}

/// Records of this priority and above stay off the consoles (first figure of `/proc/sys/kernel/printk`; 7 is the kernel's
/// own default).
fn console_log_level() -> u8 {
    std::fs::read_to_string("/proc/sys/kernel/printk")
        .ok()
        .and_then(|text| text.split_whitespace().next()?.parse().ok())
        .unwrap_or(7)
}

impl Subscriber for Kmsg {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        // Libraries' chatter is not for a serial console.
        metadata.target().starts_with("init") && *metadata.level() <= Level::DEBUG
    }

    fn event(&self, event: &tracing::Event<'_>) {
        let mut line = Line(String::new());
        event.record(&mut line);
        self.write(*event.metadata().level(), &line.0);
    }

    fn new_span(&self, _: &span::Attributes<'_>) -> span::Id {
        span::Id::from_u64(1)
    }
    fn record(&self, _: &span::Id, _: &span::Record<'_>) {}
    fn record_follows_from(&self, _: &span::Id, _: &span::Id) {}
    fn enter(&self, _: &span::Id) {}
    fn exit(&self, _: &span::Id) {}
}

struct Line(String);

impl Visit for Line {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        // Writing to a String cannot fail.
        let _ = if field.name() == "message" {
            write!(self.0, "{value:?}")
        } else {
            write!(self.0, " {}={value:?}", field.name())
        };
    }
}
