//! `/run/lifeboat`, or another folder that stands for it in a test.

use std::path::{Path, PathBuf};

use init::status::{
    BOOT_STATUS_PATH, CONTINUE_PATH, HAND_OVER_FAILED_PATH, HOLD_PATH, HOST_KEY_FINGERPRINT_PATH,
    HOST_KEY_PATH, LAST_CRASH_PATH, MACHINE_PATH, NETWORK_STATUS_PATH, PSTORE_DIR, REBOOT_ARGUMENT_PATH,
    RUN_DIR, SESSIONS_DIR,
};

/// What PID 1 says to the people who are logged in when it hands over; without it the SSH server has its own words.
pub const GOODBYE_PATH: &str = "/run/lifeboat/goodbye";

/// The folder through which the device's own programs tell each other; the names in it are `init::status`'s.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RunDir(PathBuf);

impl Default for RunDir {
    fn default() -> Self {
        RunDir(RUN_DIR.into())
    }
}

impl RunDir {
    /// The folder `path` in the place of `/run/lifeboat`.
    pub fn new(path: impl Into<PathBuf>) -> Self {
        RunDir(path.into())
    }

    /// The folder itself.
    pub fn path(&self) -> &Path {
        &self.0
    }

    /// Where the boot stands: `init::status::BootStatus`.
    pub fn boot_status(&self) -> PathBuf {
        self.place(BOOT_STATUS_PATH)
    }

    /// What the network gave: `init::status::NetworkStatus`.
    pub fn network_status(&self) -> PathBuf {
        self.place(NETWORK_STATUS_PATH)
    }

    /// What the machine is: `init::status::Machine`.
    pub fn machine(&self) -> PathBuf {
        self.place(MACHINE_PATH)
    }

    /// The SSH server's private key.
    pub fn host_key(&self) -> PathBuf {
        self.place(HOST_KEY_PATH)
    }

    /// Its fingerprint.
    pub fn host_key_fingerprint(&self) -> PathBuf {
        self.place(HOST_KEY_FINGERPRINT_PATH)
    }

    /// One file for each logged-in session.
    pub fn sessions(&self) -> PathBuf {
        self.place(SESSIONS_DIR)
    }

    /// What is said to those who are logged in when the machine hands over.
    pub fn goodbye(&self) -> PathBuf {
        self.place(GOODBYE_PATH)
    }

    /// The mark that keeps the boot from going on.
    pub fn hold(&self) -> PathBuf {
        self.place(HOLD_PATH)
    }

    /// The mark that lets it go on, with the sessions that it does not wait for.
    pub fn go_on(&self) -> PathBuf {
        self.place(CONTINUE_PATH)
    }

    /// Why a hand-over failed.
    pub fn hand_over_failed(&self) -> PathBuf {
        self.place(HAND_OVER_FAILED_PATH)
    }

    /// What the firmware is told at the next start.
    pub fn reboot_argument(&self) -> PathBuf {
        self.place(REBOOT_ARGUMENT_PATH)
    }

    /// How an earlier boot crashed: `init::status::LastCrash`.
    pub fn last_crash(&self) -> PathBuf {
        self.place(LAST_CRASH_PATH)
    }

    /// The folder with what that crash left.
    pub fn pstore(&self) -> PathBuf {
        self.place(PSTORE_DIR)
    }

    fn place(&self, path: &str) -> PathBuf {
        // Every path of the contract is below RUN_DIR: held by `paths_are_those_of_the_contract`.
        self.0.join(Path::new(path).strip_prefix(RUN_DIR).unwrap_or(Path::new(path)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_those_of_the_contract() {
        let run = RunDir::default();
        for (path, contract) in [
            (run.boot_status(), BOOT_STATUS_PATH),
            (run.network_status(), NETWORK_STATUS_PATH),
            (run.machine(), MACHINE_PATH),
            (run.host_key(), HOST_KEY_PATH),
            (run.host_key_fingerprint(), HOST_KEY_FINGERPRINT_PATH),
            (run.sessions(), SESSIONS_DIR),
            (run.hold(), HOLD_PATH),
            (run.go_on(), CONTINUE_PATH),
            (run.hand_over_failed(), HAND_OVER_FAILED_PATH),
            (run.reboot_argument(), REBOOT_ARGUMENT_PATH),
            (run.goodbye(), GOODBYE_PATH),
            (run.last_crash(), LAST_CRASH_PATH),
            (run.pstore(), PSTORE_DIR),
        ] {
            assert_eq!(path, Path::new(contract));
        }
        assert_eq!(RunDir::new("/tmp/x").machine(), Path::new("/tmp/x/machine.json"));
    }
}
