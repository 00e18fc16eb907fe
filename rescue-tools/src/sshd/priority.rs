//! Whoever has not logged in gets what CPU the others leave: a key exchange is the most that a stranger can make us do.

use rustix::process::{getpriority_process, nice, setpriority_process};

/// The niceness of a connection before its login, on top of the server's. Little: on a machine that works hard a login
/// still gets its share.
const STRANGER: i32 = 4;

/// Steps back until [`Priority::restore`].
#[derive(Debug)]
pub struct Priority(i32);

impl Priority {
    /// Lowers this process's priority.
    pub fn lower() -> Self {
        let before = getpriority_process(None).unwrap_or(0);
        let _ = nice(STRANGER);
        Priority(before)
    }

    /// Back to what it was, before the login's programs start and inherit it.
    pub fn restore(&self) {
        let _ = setpriority_process(None, self.0);
    }
}
