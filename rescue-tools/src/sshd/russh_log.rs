//! What `russh` decides by itself and an operator has to know: that a certificate's time is not now. On a machine without
//! a clock that is the first thing to go wrong, and the client is not told why.

use log::{Level, LevelFilter, Log, Metadata, Record};

use crate::kernel_log::KernelLog;

#[derive(Debug)]
struct Certificates(KernelLog);

impl Log for Certificates {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.level() <= Level::Warn && metadata.target().starts_with("russh::server")
    }

    fn log(&self, record: &Record<'_>) {
        let text = record.args().to_string();
        if self.enabled(record.metadata()) && text.starts_with("Certificate ") {
            let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
            self.0.say(format!(
                "refused a certificate: {text} (the clock of this machine is at {} s)",
                now.as_secs()
            ));
        }
    }

    fn flush(&self) {}
}

/// Passes them on to `log`. Held by `other_certificates_do_not_log_in` in tests/key_options.rs: the words are russh's.
pub fn pass_on(log: KernelLog) {
    if log::set_boxed_logger(Box::new(Certificates(log))).is_ok() {
        log::set_max_level(LevelFilter::Warn);
    }
}
