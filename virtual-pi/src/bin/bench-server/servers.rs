//! The servers: ours and the peers, each with the settings that suit it.

use std::ffi::OsString;
use std::fs::{self, File};
use std::net::{SocketAddr, SocketAddrV4, TcpStream, UdpSocket};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use crate::process::Process;
use crate::site::{Place, Site};

/// How long one may take until it answers.
const PATIENCE: Duration = Duration::from_secs(10);
const HTTP_PORT: u16 = 80;
const TFTP_PORT: u16 = 69;

/// Which server.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Kind {
    /// `http-boot`, for both protocols.
    Ours,
    /// dnsmasq's TFTP.
    Dnsmasq,
    /// tftpd-hpa.
    Tftpd,
    /// nginx.
    Nginx,
}

impl Kind {
    /// As the table has it.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Ours => "ours",
            Self::Dnsmasq => "dnsmasq",
            Self::Tftpd => "tftpd-hpa",
            Self::Nginx => "nginx",
        }
    }

    /// Whether it serves TFTP.
    pub(crate) fn has_tftp(self) -> bool {
        self != Self::Nginx
    }

    /// Whether it serves HTTP.
    pub(crate) fn has_http(self) -> bool {
        matches!(self, Self::Ours | Self::Nginx)
    }
}

/// One that runs.
#[derive(Debug)]
pub(crate) struct Server {
    pub(crate) kind: Kind,
    pub(crate) place: Place,
    pub(crate) process: Process,
}

impl Server {
    /// Starts one and waits until it answers.
    pub(crate) fn start(kind: Kind, site: &Site, place: &Place) -> Result<Self> {
        let log = site.folder.join(format!("{}.log", kind.name()));
        let (out, errors) = (File::create(&log)?, File::options().append(true).open(&log)?);
        let words = match kind {
            Kind::Ours => http_boot(site, place),
            Kind::Dnsmasq => dnsmasq(site),
            Kind::Tftpd => tftpd(site, place),
            Kind::Nginx => nginx(site, place)?,
        };
        // The kernel ends it with the thread that started it, which is the one of main().
        let mut command = Command::new("ip");
        command.args(["netns", "exec", &place.namespace, "setpriv", "--pdeathsig", "TERM", "--"]);
        command.args(words).stdin(Stdio::null()).stdout(out).stderr(errors);
        command.env("PATH", path()).env_remove("RUST_LOG");
        let mut server = Self { kind, place: place.clone(), process: Process::start(&mut command)? };
        server.wait_until_it_answers(&log)?;
        Ok(server)
    }

    /// Where it serves HTTP.
    pub(crate) fn http(&self) -> SocketAddrV4 {
        SocketAddrV4::new(self.place.server(), HTTP_PORT)
    }

    /// Where it serves TFTP.
    pub(crate) fn tftp(&self) -> SocketAddrV4 {
        SocketAddrV4::new(self.place.server(), TFTP_PORT)
    }

    fn wait_until_it_answers(&mut self, log: &Path) -> Result<()> {
        let began = Instant::now();
        // There is no event to wait for: only asking shows whether it answers.
        while !self.answers()? {
            if self.process.has_ended() {
                let said = fs::read_to_string(log).unwrap_or_default();
                bail!("{} ended at once: {}", self.kind.name(), said.trim());
            }
            if began.elapsed() > PATIENCE {
                bail!("{} does not answer after {} s", self.kind.name(), PATIENCE.as_secs());
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        Ok(())
    }

    fn answers(&self) -> Result<bool> {
        if self.kind.has_http() && TcpStream::connect(self.http()).is_err() {
            return Ok(false);
        }
        if !self.kind.has_tftp() {
            return Ok(true);
        }
        let socket =
            UdpSocket::bind(SocketAddrV4::new(self.place.client(0), 0)).context("making a socket")?;
        socket.set_read_timeout(Some(Duration::from_millis(200)))?;
        socket.send_to(b"\0\x01no-such-file\0octet\0", SocketAddr::V4(self.tftp()))?;
        Ok(socket.recv(&mut [0; 600]).is_ok())
    }
}

/// nginx and the TFTP servers are where an ordinary PATH may not look.
fn path() -> OsString {
    let mut path = std::env::var_os("PATH").unwrap_or_default();
    path.push(":/usr/sbin:/sbin");
    path
}

type Words = Vec<OsString>;

fn words<const N: usize>(words: [&str; N]) -> Words {
    words.map(OsString::from).into()
}

fn root(site: &Site) -> PathBuf {
    site.folder.join("root")
}

/// The one of `--http-boot`.
fn http_boot(site: &Site, place: &Place) -> Words {
    let mut all: Words =
        vec![site.http_boot.clone().into(), "serve".into(), "--root".into(), root(site).into()];
    all.extend(words(["--listen", &format!("{}:{HTTP_PORT}", place.server())]));
    all.extend(words(["--tftp", &format!("{}:{TFTP_PORT}", place.server())]));
    all
}

fn dnsmasq(site: &Site) -> Words {
    let mut folder = OsString::from("--tftp-root=");
    folder.push(root(site).join("tftp"));
    // As root, since the bench's files may be below a folder that is root's. Its limit of 50 transfers would not do.
    let mut all =
        words(["dnsmasq", "--keep-in-foreground", "--conf-file=/dev/null", "--user=root", "--port=0"]);
    all.extend(words(["--pid-file=", "--log-facility=-", "--enable-tftp", "--tftp-max=256"]));
    all.push(folder);
    all
}

fn tftpd(site: &Site, place: &Place) -> Words {
    let address = format!("{}:{TFTP_PORT}", place.server());
    let mut all = words(["in.tftpd", "--foreground", "--user", "root", "--address", &address, "--secure"]);
    all.push(root(site).join("tftp").into());
    all
}

fn nginx(site: &Site, place: &Place) -> Result<Words> {
    let folder = site.folder.join("nginx");
    fs::create_dir_all(&folder).with_context(|| format!("making {}", folder.display()))?;
    let configuration = folder.join("nginx.conf");
    let text = nginx_conf(&root(site), &folder, SocketAddrV4::new(place.server(), HTTP_PORT));
    fs::write(&configuration, text).with_context(|| format!("writing {}", configuration.display()))?;
    let mut all = words(["nginx", "-e"]);
    all.push(folder.join("error.log").into());
    all.push("-c".into());
    all.push(configuration.into());
    Ok(all)
}

/// What its authors advise for files: sendfile, and a worker for each processor.
fn nginx_conf(root: &Path, folder: &Path, listen: SocketAddrV4) -> String {
    let (root, folder) = (root.display(), folder.display());
    // As root, its workers have to read what root reads; otherwise nginx passes over this line with a warning.
    format!(
        r#"user root;
daemon off;
worker_processes auto;
worker_rlimit_nofile 8192;
pid "{folder}/pid";
events {{ worker_connections 4096; }}
http {{
  access_log "{folder}/access.log";
  sendfile on; tcp_nopush on; keepalive_timeout 65;
  default_type application/octet-stream;
  client_body_temp_path "{folder}/body"; proxy_temp_path "{folder}/proxy";
  fastcgi_temp_path "{folder}/fastcgi"; uwsgi_temp_path "{folder}/uwsgi"; scgi_temp_path "{folder}/scgi";
  server {{ listen {listen} backlog=2048; root "{root}"; }}
}}
"#
    )
}
