//! A Debian that booted by itself: systemd and sshd in systemd-nspawn, on a cable of its own, and nothing of it is left afterwards.

use std::fs::File;
use std::os::unix::net::UnixDatagram;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

/// The machine's address.
pub(crate) const ADDRESS: &str = "192.0.2.2";
/// A boot takes five seconds.
const BOOT_LIMIT: Duration = Duration::from_secs(120);
/// What may become of a command that hangs, as `timeout` says it.
const COMMAND_LIMIT: &str = "180";

/// A program's end, in text.
#[derive(Debug)]
pub(crate) struct Ended {
    pub(crate) ok: bool,
    pub(crate) text: String,
}

impl Ended {
    pub(crate) fn new(output: &Output) -> Self {
        let text =
            [&output.stdout, &output.stderr].map(|it| String::from_utf8_lossy(it).into_owned()).concat();
        Self { ok: output.status.success(), text: format!("{text}{}", signal(output)) }
    }

    /// Its text, where it went well.
    pub(crate) fn unwrap(self) -> String {
        assert!(self.ok, "{}", self.text);
        self.text
    }
}

fn signal(output: &Output) -> String {
    output.status.signal().map(|signal| format!("\nended by signal {signal}")).unwrap_or_default()
}

/// The folder that `.ci/site` fills.
pub(crate) fn made(name: &str) -> PathBuf {
    let target = Path::new(env!("CARGO_BIN_EXE_http-boot")).ancestors().nth(2).unwrap();
    let path = target.join("site").join(name);
    path.canonicalize().unwrap_or_else(|error| panic!("{}: {error}: run .ci/site", path.display()))
}

/// The repository.
pub(crate) fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_owned()
}

/// One machine, and a folder for files beside it.
pub(crate) struct Machine {
    pub(crate) folder: tempfile::TempDir,
    namespace: String,
    container: Child,
}

impl Machine {
    /// Boots one and waits until its systemd says that it is up.
    pub(crate) fn boot() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let namespace = format!("site{}n{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        let folder = tempfile::tempdir().unwrap();
        let ready = UnixDatagram::bind(folder.path().join("ready")).unwrap();
        ready.set_read_timeout(Some(BOOT_LIMIT)).unwrap();
        local(&format!("ip netns add {namespace} && ip -n {namespace} link set lo up"));
        let container = start(&namespace, folder.path());
        let machine = Self { folder, namespace, container };
        machine.wait_until_up(&ready);
        let link = "link=$(ip -o link show type veth | cut -d: -f2 | cut -d@ -f1)";
        machine
            .here(&format!("{link} && ip link set $link up && ip address add 192.0.2.1/24 dev $link"))
            .unwrap();
        machine.write_ssh_config();
        machine
    }

    fn wait_until_up(&self, ready: &UnixDatagram) {
        let mut buffer = [0; 4096];
        loop {
            let length = ready.recv(&mut buffer).unwrap_or_else(|error| {
                panic!(
                    "it did not boot ({error}):\n{}",
                    std::fs::read_to_string(self.path("console")).unwrap()
                )
            });
            if String::from_utf8_lossy(&buffer[..length]).lines().any(|line| line == "READY=1") {
                return;
            }
        }
    }

    fn write_ssh_config(&self) {
        let host_key = made("debian").join("etc/ssh/ssh_host_ed25519_key.pub");
        let known = format!("{ADDRESS} {}", std::fs::read_to_string(host_key).unwrap());
        std::fs::write(self.path("known_hosts"), known).unwrap();
        let config = format!(
            "Host *\n  User root\n  IdentityFile {}\n  IdentitiesOnly yes\n  UserKnownHostsFile {}\n  ConnectTimeout 10\n",
            made("key").display(),
            self.path("known_hosts").display()
        );
        std::fs::write(self.path("ssh_config"), config).unwrap();
    }

    /// A file beside the machine.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Runs a line of shell at the other end of its cable, in the folder beside it.
    pub(crate) fn here(&self, line: &str) -> Ended {
        let output = Command::new("ip")
            .args([
                "netns",
                "exec",
                &self.namespace,
                "timeout",
                "--kill-after=5",
                COMMAND_LIMIT,
                "sh",
                "-ec",
                line,
            ])
            .current_dir(self.folder.path())
            .stdin(Stdio::null())
            .output()
            .expect("ip (package iproute2)");
        Ended::new(&output)
    }

    /// Runs a line of shell on it, over SSH.
    pub(crate) fn on(&self, line: &str) -> Ended {
        std::fs::write(self.path("line"), line).unwrap();
        self.here(&format!("ssh -F ssh_config {ADDRESS} sh -e -s <line"))
    }

    /// Copies a file onto it.
    pub(crate) fn put(&self, file: &Path, to: &str) {
        self.here(&format!("scp -q -F ssh_config {} {ADDRESS}:{to}", file.display())).unwrap();
    }
}

/// systemd-nspawn in a namespace of its own: `ip netns exec` gives it a fresh /sys, where a systemd of any version finds cgroup2,
/// whatever this machine has. Its root is a layer in RAM over the Debian.
fn start(namespace: &str, folder: &Path) -> Child {
    let script = format!(
        "mount -t cgroup2 cgroup2 /sys/fs/cgroup && mkdir /sys/fs/cgroup/{namespace} &&
        echo $$ >/sys/fs/cgroup/{namespace}/cgroup.procs &&
        exec setpriv --pdeathsig TERM systemd-nspawn --quiet --boot --register=no --keep-unit --volatile=overlay --network-veth \
          --console=read-only --notify-ready=yes --machine={namespace} --directory={}",
        made("debian").display()
    );
    let console = File::create(folder.join("console")).unwrap();
    Command::new("ip")
        .args(["netns", "exec", namespace, "sh", "-ec", &script])
        .env("NOTIFY_SOCKET", folder.join("ready"))
        .stdin(Stdio::null())
        .stdout(console.try_clone().unwrap())
        .stderr(console)
        .spawn()
        .expect("ip (package iproute2)")
}

fn local(line: &str) {
    Ended::new(&Command::new("sh").args(["-ec", line]).output().unwrap()).unwrap();
}

impl Drop for Machine {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let journal = self.on("journalctl --no-pager -b | tail -n 40; systemctl --failed --no-pager");
            eprintln!("{}", journal.text);
        }
        // SIGTERM to systemd-nspawn powers the machine off; a second one, after a while, ends it whatever it does.
        let pid = self.container.id();
        local(&format!("kill {pid}; timeout 15 tail --pid={pid} -f /dev/null || kill -9 {pid}; true"));
        let _ = self.container.wait();
        local(&format!(
            "ip netns del {0}; unshare --mount sh -c 'mount -t cgroup2 cgroup2 /mnt && find /mnt/{0} -depth -type d -exec rmdir {{}} +' || true",
            self.namespace
        ));
    }
}
