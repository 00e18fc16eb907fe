//! Control groups (Documentation/admin-guide/cgroup-v2.rst): what people start is in groups of its own below one, so that
//! a full file system in RAM or a fork bomb takes neither PID 1 nor the SSH server down. The boot makes the one, whoever
//! starts a session makes its group.

/// Where version 2 is mounted.
pub const ROOT: &str = "/sys/fs/cgroup";
/// The group of all sessions.
pub const SESSIONS: &str = "/sys/fs/cgroup/sessions";
/// The controllers that limit something. A kernel may lack some: Raspberry Pi's has `memory` only with
/// `cgroup_enable=memory`.
pub const CONTROLLERS: [&str; 3] = ["memory", "pids", "cpu"];
/// So many processes may be in all sessions, …
pub const PIDS: u32 = 2048;
/// … and in one, so that there are some left for who logs in to end them.
pub const PIDS_EACH: u32 = 512;

/// What is kept of `total` bytes of RAM for PID 1, its children and the SSH server.
pub fn reserve(total: u64) -> u64 {
    (64 << 20) + total / 32
}

/// The most that all sessions may have of `total` bytes: on a machine that is too small for the reserve as much as a shell
/// and a tool need.
pub fn memory(total: u64) -> u64 {
    total.saturating_sub(reserve(total)).max(64 << 20)
}

/// The most that a new session may have, where `available` bytes are free. It leaves something of what the reserve leaves, so
/// that there is always room for one more: who logs in to clear up after another needs little.
pub fn memory_of_one(total: u64, available: u64) -> u64 {
    (available.saturating_sub(reserve(total)) / 8 * 7).max(16 << 20)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_is_always_room_for_one_more_session() {
        for total in [256_u64 << 20, 1 << 30, 8 << 30] {
            let mut available = total / 10 * 8;
            for _ in 0..3 {
                let taken = memory_of_one(total, available);
                assert!(taken >= 16 << 20 && taken <= memory(total), "{total}: {taken}");
                available = available.saturating_sub(taken);
                assert!(available >= reserve(total) / 2, "{total}: {available}");
            }
        }
        assert_eq!(memory(64 << 20), 64 << 20);
    }
}
