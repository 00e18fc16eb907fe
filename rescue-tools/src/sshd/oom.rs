//! Who goes first when memory runs out (proc_pid_oom_score_adj(5)). PID 1 may never be killed, and children inherit that:
//! the listener takes a little less, so that it is nearly the last, and what people start is like any other program.

const PATH: &str = "/proc/self/oom_score_adj";
const NEVER: &str = "-1000";

/// The listener: after everyone but PID 1.
pub(crate) const LISTENER: &str = "-900";
/// A session and what is started in it.
pub(crate) const SESSION: &str = "0";

/// Replaces an inherited figure of PID 1 or the listener; one that the operator chose otherwise stays.
pub(crate) fn inherit_less(figure: &str) {
    let inherited = std::fs::read_to_string(PATH).unwrap_or_default();
    if [NEVER, LISTENER].contains(&inherited.trim()) {
        // Where it cannot be written, the kernel's choice stays as it was.
        let _ = std::fs::write(PATH, figure);
    }
}
