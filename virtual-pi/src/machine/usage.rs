//! What a QEMU process has used, from /proc.

use std::fs;

/// What it has used.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Usage {
    /// Seconds of processor time, in user and kernel mode.
    pub cpu_seconds: f64,
    /// The largest resident set so far, in bytes. It is QEMU's own and the guest memory that was touched.
    pub peak_rss: u64,
}

impl Usage {
    /// Looks again. Of a process that is over, the last values stay.
    pub(super) fn update(&mut self, pid: u32) {
        if let Some(seconds) =
            fs::read_to_string(format!("/proc/{pid}/stat")).ok().and_then(|stat| cpu_seconds(&stat))
        {
            self.cpu_seconds = self.cpu_seconds.max(seconds);
        }
        if let Some(bytes) =
            fs::read_to_string(format!("/proc/{pid}/status")).ok().and_then(|status| peak_rss(&status))
        {
            self.peak_rss = self.peak_rss.max(bytes);
        }
    }
}

/// proc_pid_stat(5): fields 14 and 15, counted from the end of the name, which may have anything in it.
fn cpu_seconds(stat: &str) -> Option<f64> {
    let mut fields = stat.rsplit_once(')')?.1.split_ascii_whitespace().skip(11);
    let mut ticks = || fields.next()?.parse::<u32>().ok();
    let total = f64::from(ticks()?) + f64::from(ticks()?);
    let per_second = u32::try_from(rustix::param::clock_ticks_per_second()).ok()?;
    Some(total / f64::from(per_second))
}

fn peak_rss(status: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    line.trim().strip_suffix(" kB")?.parse::<u64>().ok()?.checked_mul(1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_this_process() {
        let mut usage = Usage::default();
        usage.update(std::process::id());
        assert!(usage.peak_rss > 100_000, "{usage:?}");
        let before = usage;
        usage.update(u32::MAX);
        assert_eq!(usage, before);
    }

    #[test]
    fn fields() {
        let per_second = f64::from(u32::try_from(rustix::param::clock_ticks_per_second()).unwrap());
        let stat = "1 (a) b) S 1 1 1 0 -1 0 0 0 0 0 150 50 0 0";
        assert!((cpu_seconds(stat).unwrap() * per_second - 200.0).abs() < 1e-9);
        assert_eq!(cpu_seconds("1 (a) S"), None);
        assert_eq!(peak_rss("VmPeak:\t 1 kB\nVmHWM:\t   20 kB\n"), Some(20480));
    }
}
