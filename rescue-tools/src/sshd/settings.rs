//! What the SSH server is told: the same options for the listener and for the process of one connection.

use std::ffi::OsString;
use std::net::{Ipv6Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use anyhow::Result;
use init::config::AUTHORIZED_KEYS_PATH;
use lexopt::prelude::*;

use crate::kernel_log::{KMSG_PATH, KernelLog};
use crate::run_dir::RunDir;

/// The options of `rescue sshd`.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Where to listen. Empty: port 22 on every address, of IPv6 and IPv4, or of IPv4 where there is no IPv6.
    pub listen: Vec<SocketAddr>,
    /// The private host key, made when it is missing.
    pub host_key: PathBuf,
    /// Its fingerprint is written here.
    pub fingerprint: PathBuf,
    /// The public keys that may log in.
    pub authorized_keys: PathBuf,
    /// The shell of logins and commands.
    pub shell: PathBuf,
    /// `/run/lifeboat`.
    pub run: RunDir,
    /// The kernel's log.
    pub kmsg: PathBuf,
    /// A client that says nothing is asked this often whether it lives (sshd_config(5), ClientAliveInterval).
    pub client_alive: Duration,
}

/// Where the server listens unless it is told otherwise.
pub const DEFAULT_LISTEN: SocketAddr =
    SocketAddr::V6(std::net::SocketAddrV6::new(Ipv6Addr::UNSPECIFIED, 22, 0, 0));

/// How often a silent client is asked unless it is said otherwise.
pub const DEFAULT_CLIENT_ALIVE: Duration = Duration::from_secs(30);

impl Settings {
    /// The server's log.
    pub fn log(&self) -> KernelLog {
        KernelLog::new(self.kmsg.clone(), "lifeboat-sshd")
    }

    /// The arguments of `rescue sshd-session` that say the same.
    pub fn session_arguments(&self) -> Vec<OsString> {
        let mut arguments = vec!["sshd-session".into()];
        for (option, path) in [
            ("--authorized-keys", self.authorized_keys.as_path()),
            ("--shell", &self.shell),
            ("--run-dir", self.run.path()),
            ("--kmsg", &self.kmsg),
        ] {
            arguments.push(option.into());
            arguments.push(path.into());
        }
        arguments.extend(["--client-alive-interval".into(), self.client_alive.as_secs().to_string().into()]);
        arguments
    }
}

/// Reads the options behind `rescue sshd` and `rescue sshd-session`.
pub fn parse(arguments: Vec<OsString>) -> Result<Settings> {
    let mut run = RunDir::default();
    let mut host_key: Option<PathBuf> = None;
    let mut listen = Vec::new();
    let mut authorized_keys = PathBuf::from(AUTHORIZED_KEYS_PATH);
    let mut shell = PathBuf::from("/bin/sh");
    let mut kmsg = PathBuf::from(KMSG_PATH);
    let mut client_alive = DEFAULT_CLIENT_ALIVE;
    let mut parser = lexopt::Parser::from_args(arguments);
    while let Some(argument) = parser.next()? {
        match argument {
            Long("listen") => listen.push(parser.value()?.parse()?),
            Long("host-key") => host_key = Some(parser.value()?.into()),
            Long("authorized-keys") => authorized_keys = parser.value()?.into(),
            Long("shell") => shell = parser.value()?.into(),
            Long("run-dir") => run = RunDir::new(parser.value()?),
            Long("kmsg") => kmsg = parser.value()?.into(),
            Long("client-alive-interval") => {
                client_alive = Duration::from_secs(parser.value()?.parse_with(seconds)?)
            }
            _ => return Err(argument.unexpected().into()),
        }
    }
    let fingerprint = match &host_key {
        None => run.host_key_fingerprint(),
        Some(path) => {
            let mut path = path.clone().into_os_string();
            path.push(".fingerprint");
            path.into()
        }
    };
    let host_key = host_key.unwrap_or_else(|| run.host_key());
    Ok(Settings { listen, host_key, fingerprint, authorized_keys, shell, run, kmsg, client_alive })
}

/// From 1 to a day: a server that never asked would keep dead clients for ever.
fn seconds(text: &str) -> Result<u64, &'static str> {
    text.parse().ok().filter(|seconds| (1..=86_400).contains(seconds)).ok_or("1 to 86400 seconds")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(arguments: &[&str]) -> Result<Settings> {
        parse(arguments.iter().map(OsString::from).collect())
    }

    #[test]
    fn the_defaults_are_the_contract() {
        let settings = parsed(&[]).unwrap();
        assert_eq!(settings.host_key.to_str(), Some(init::status::HOST_KEY_PATH));
        assert_eq!(settings.fingerprint.to_str(), Some(init::status::HOST_KEY_FINGERPRINT_PATH));
        assert_eq!(settings.authorized_keys.to_str(), Some("/root/.ssh/authorized_keys"));
        assert_eq!(DEFAULT_LISTEN.to_string(), "[::]:22");
    }

    #[test]
    fn a_session_is_told_the_same() {
        let settings = parsed(&[
            "--listen",
            "127.0.0.1:1",
            "--listen=[::1]:2",
            "--run-dir",
            "/x",
            "--shell",
            "/s",
            "--client-alive-interval=7",
        ]);
        let settings = settings.unwrap();
        assert_eq!(settings.listen.len(), 2);
        assert_eq!(settings.host_key.to_str(), Some("/x/ssh_host_ed25519_key"));
        let session = parse(settings.session_arguments().split_off(1)).unwrap();
        assert_eq!((session.shell, session.run), (settings.shell, settings.run));
        assert_eq!(session.client_alive, Duration::from_secs(7));
    }

    #[test]
    fn bad_options_are_named() {
        for (bad, says) in [
            ("--listen=port", "port"),
            ("--password", "--password"),
            ("word", "word"),
            ("--client-alive-interval=0", "1 to 86400"),
        ] {
            let error = format!("{:#}", parsed(&[bad]).unwrap_err());
            assert!(error.contains(says), "{error}");
        }
    }
}
