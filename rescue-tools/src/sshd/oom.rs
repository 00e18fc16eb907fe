//! Who goes first when memory runs out (proc_pid_oom_score_adj(5)). PID 1 may never be killed, and children inherit that:
//! the listener takes a little less, so that it is nearly the last, the services take less still, and what people start is
//! like any other program.

use rustix::fs::{Mode, OFlags};

const PATH: &str = "/proc/self/oom_score_adj";
const NEVER: &str = "-1000";

/// The listener: after everyone but PID 1.
pub(crate) const LISTENER: &str = "-900";
/// A service that PID 1 starts again (`init/src/main.rs` has the same).
pub(crate) const SERVICE: &str = "-500";
/// The process that serves a connection.
pub(crate) const CONNECTION: &str = "-250";
/// What is started in a session.
const SESSION: &str = "0";

/// Replaces an inherited figure of PID 1 or one of ours; one that the operator chose otherwise stays.
pub(crate) fn inherit_less(figure: &str) {
    if is_ours() {
        // Where it cannot be written, the kernel's choice stays as it was.
        let _ = std::fs::write(PATH, figure);
    }
}

/// Whether this process has a figure that is ours, so that what it starts for a person takes less of it.
pub(crate) fn is_ours() -> bool {
    let figure = std::fs::read_to_string(PATH).unwrap_or_default();
    [NEVER, LISTENER, SERVICE, CONNECTION].contains(&figure.trim())
}

/// Makes this process one of a session: bare system calls, which is all that may be between fork and exec.
pub(crate) fn become_session() {
    let file = rustix::fs::open(c"/proc/self/oom_score_adj", OFlags::WRONLY | OFlags::CLOEXEC, Mode::empty());
    if let Ok(file) = file {
        let _ = rustix::io::write(&file, SESSION.as_bytes());
    }
}
