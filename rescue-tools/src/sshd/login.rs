//! What a login gets: its environment, its greeting, and the line before it.

use std::ffi::{OsStr, OsString};
use std::net::SocketAddr;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

use super::settings::Settings;
use super::terminal::Terminal;
use crate::run_dir::RunDir;
use crate::status::{gather, text};

/// Where root is at home.
const HOME: &str = "/root";
/// Where a login's programs are.
pub const PATH: &str = "/usr/sbin:/usr/bin:/sbin:/bin";
/// As login(1) and OpenSSH: with this file in the home folder there is no greeting.
const HUSH_LOGIN: &str = "/root/.hushlogin";
/// A client may set no more variables than this, …
const VARIABLES: usize = 32;
/// … and none of more bytes.
const VARIABLE_LENGTH: usize = 1024;
/// What is said when the machine hands over, unless PID 1 has other words.
const GOODBYE: &str = "The machine is handing over to the OS: this session ends.";
/// Where the programs for the subsystem `sftp` are.
const SFTP_SERVERS: [&str; 3] =
    ["/usr/lib/openssh/sftp-server", "/usr/lib/sftp-server", "/usr/libexec/sftp-server"];

/// What a channel asks to run.
#[derive(Debug)]
pub enum Task {
    /// A login shell.
    Shell,
    /// A command line for the shell.
    Command(Vec<u8>),
    /// The program at this path speaks SFTP on its standard input and output.
    Sftp(PathBuf),
}

impl Task {
    /// What runs where `command` stands in the place of all, and what the client had asked for: `SSH_ORIGINAL_COMMAND`.
    pub fn forced(self, command: Option<&str>) -> (Self, Option<OsString>) {
        let Some(command) = command else { return (self, None) };
        let original = match self {
            Task::Shell => None,
            Task::Command(line) => Some(OsString::from_vec(line)),
            Task::Sftp(path) => Some(path.into_os_string()),
        };
        (Task::Command(command.into()), original)
    }
}

/// The two ends of a connection.
#[derive(Clone, Copy, Debug)]
pub struct Ends {
    /// The client's.
    pub peer: SocketAddr,
    /// Ours.
    pub local: SocketAddr,
}

/// Variables that a client asked for, and that it may set.
#[derive(Debug, Default)]
pub struct Wishes(Vec<(String, String)>);

impl Wishes {
    /// Takes a variable; false where it is not one that a client may set: the locale and colours only.
    pub fn set(&mut self, name: &str, value: &str) -> bool {
        let allowed = matches!(name, "LANG" | "NO_COLOR" | "COLORTERM") || name.starts_with("LC_");
        let fits = name.len() + value.len() <= VARIABLE_LENGTH && self.0.len() < VARIABLES;
        let sound = !name.contains(['=', '\0']) && !value.contains('\0');
        if allowed && fits && sound {
            self.0.push((name.to_string(), value.to_string()));
        }
        allowed && fits && sound
    }

    fn colour(&self) -> bool {
        !self.0.iter().any(|(name, value)| name == "NO_COLOR" && !value.is_empty())
    }
}

/// The environment of a program.
pub fn environment(
    settings: &Settings,
    ends: Ends,
    wishes: &Wishes,
    terminal: Option<&Terminal>,
) -> Vec<(OsString, OsString)> {
    let peer = (ends.peer.ip().to_canonical(), ends.peer.port());
    let local = (ends.local.ip().to_canonical(), ends.local.port());
    let mut variables: Vec<(OsString, OsString)> =
        wishes.0.iter().map(|(name, value)| (name.into(), value.into())).collect();
    let mut set = |name: &str, value: &OsStr| variables.push((name.into(), value.into()));
    set("HOME", HOME.as_ref());
    set("USER", "root".as_ref());
    set("LOGNAME", "root".as_ref());
    set("SHELL", settings.shell.as_os_str());
    set("PATH", PATH.as_ref());
    // There is no udevd: dmsetup and its like make the nodes below /dev/mapper themselves then.
    set("DM_DISABLE_UDEV", "1".as_ref());
    set("SSH_CLIENT", format!("{} {} {}", peer.0, peer.1, local.1).as_ref());
    set("SSH_CONNECTION", format!("{} {} {} {}", peer.0, peer.1, local.0, local.1).as_ref());
    if let Some(terminal) = terminal {
        set("SSH_TTY", terminal.path.as_os_str());
        set("TERM", terminal.term.as_ref());
    }
    variables
}

/// The folder that a program starts in.
pub fn home() -> &'static Path {
    let home = Path::new(HOME);
    if home.is_dir() { home } else { Path::new("/") }
}

/// Name and arguments of what `task` runs: the program, its `argv[0]`, and the rest.
pub fn command_line(settings: &Settings, task: Task) -> (PathBuf, OsString, Vec<OsString>) {
    let name = settings.shell.file_name().unwrap_or(OsStr::new("sh")).to_os_string();
    match task {
        Task::Shell => {
            let mut login = OsString::from("-");
            login.push(&name);
            (settings.shell.clone(), login, Vec::new())
        }
        Task::Command(line) => {
            (settings.shell.clone(), name, vec!["-c".into(), OsStr::from_bytes(&line).to_os_string()])
        }
        Task::Sftp(path) => (path.clone(), path.into_os_string(), Vec::new()),
    }
}

/// The program that speaks SFTP, where the image has one.
pub fn sftp_server() -> Option<PathBuf> {
    SFTP_SERVERS.iter().map(PathBuf::from).find(|path| path.is_file())
}

/// What a login on a terminal sees before its shell: `rescue status`, in a terminal's line ends.
pub fn greeting(run: &RunDir, wishes: &Wishes) -> Vec<u8> {
    if Path::new(HUSH_LOGIN).exists() {
        return Vec::new();
    }
    let status = gather::gather(&gather::Sources { run: run.clone(), ..gather::Sources::default() });
    for_terminal(&text::render(&status, wishes.colour()))
}

/// The one line that a client shows before the login, to anyone: no more than what the console shows as well.
pub fn banner(run: &RunDir) -> String {
    match gather::boot_status(run) {
        Some(boot) => {
            let state = text::state_word(boot.state);
            let step: String =
                boot.step.chars().filter(|character| !character.is_control()).take(40).collect();
            format!("Pi Lifeboat: step {}/{} {step}, {state}\r\n", boot.number, boot.total)
        }
        None => "Pi Lifeboat\r\n".to_string(),
    }
}

/// What is said to logins on a terminal when the machine hands over.
pub fn goodbye(run: &RunDir) -> Vec<u8> {
    let said = std::fs::read_to_string(run.goodbye()).ok().filter(|text| !text.trim().is_empty());
    for_terminal(&format!("\n{}\n", said.as_deref().map_or(GOODBYE, str::trim_end)))
}

fn for_terminal(text: &str) -> Vec<u8> {
    text.replace('\n', "\r\n").into_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_client_sets_its_locale_and_nothing_else() {
        let mut wishes = Wishes::default();
        assert!(
            wishes.set("LANG", "de_DE.UTF-8") && wishes.set("LC_ALL", "C") && wishes.set("NO_COLOR", "1")
        );
        for (name, value) in [("PATH", "/tmp"), ("LD_PRELOAD", "x"), ("LC_A=B", "x"), ("LANG", "a\0b")] {
            assert!(!wishes.set(name, value), "{name}");
        }
        assert!(!wishes.set("LC_LONG", &"x".repeat(2000)));
        assert!(!wishes.colour());
    }

    #[test]
    fn addresses_are_written_as_openssh_does() {
        let settings = crate::sshd::settings::parse(Vec::new()).unwrap();
        let ends =
            Ends { peer: "[::ffff:10.0.0.9]:5000".parse().unwrap(), local: "[fe80::1]:22".parse().unwrap() };
        let variables = environment(&settings, ends, &Wishes::default(), None);
        let value = |name: &str| {
            variables.iter().find(|(key, _)| key == name).unwrap().1.to_str().unwrap().to_string()
        };
        assert_eq!(value("SSH_CLIENT"), "10.0.0.9 5000 22");
        assert_eq!(value("SSH_CONNECTION"), "10.0.0.9 5000 fe80::1 22");
        assert!(!variables.iter().any(|(name, _)| name == "TERM" || name == "SSH_TTY"));
    }

    #[test]
    fn pid_1_may_say_goodbye_in_its_own_words() {
        let folder = tempfile::tempdir().unwrap();
        let run = RunDir::new(folder.path());
        assert_eq!(goodbye(&run), format!("\r\n{GOODBYE}\r\n").into_bytes());
        std::fs::write(run.goodbye(), "Debian starts.\n").unwrap();
        assert_eq!(goodbye(&run), b"\r\nDebian starts.\r\n");
    }
}
