//! nginx, which serves the same files to all: plain, from the page cache, on 127.0.0.1.

use std::fs::{self, File};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

/// How long it may take until it listens.
const PATIENCE: Duration = Duration::from_secs(10);

/// A running nginx. It ends when this is dropped, and when this process ends, however that ends.
#[derive(Debug)]
pub(crate) struct Server {
    process: Child,
    port: u16,
}

impl Server {
    /// Serves the files of `root`; what nginx writes goes to `folder`.
    pub(crate) fn start(root: &Path, folder: &Path) -> Result<Self> {
        let context = || format!("preparing nginx in {}", folder.display());
        let root = root.canonicalize().with_context(context)?;
        fs::create_dir_all(folder).with_context(context)?;
        let folder = folder.canonicalize().with_context(context)?;
        let port = free_port()?;
        let configuration = folder.join("nginx.conf");
        fs::write(&configuration, text(&root, &folder, port)).with_context(context)?;
        let said = File::create(folder.join("nginx.out")).with_context(context)?;
        // The kernel ends it with the thread that started it, which is the one of main().
        let process = Command::new("setpriv")
            .args(["--pdeathsig", "TERM", "--", "nginx", "-e"])
            .arg(folder.join("error.log"))
            .arg("-c")
            .arg(&configuration)
            .stdin(Stdio::null())
            .stderr(said)
            .spawn()
            .context("starting setpriv (Debian package: util-linux)")?;
        let mut server = Self { process, port };
        server.wait_until_it_listens(&folder)?;
        Ok(server)
    }

    fn wait_until_it_listens(&mut self, folder: &Path) -> Result<()> {
        let began = Instant::now();
        // There is no event to wait for: only asking shows whether it listens.
        while TcpStream::connect((Ipv4Addr::LOCALHOST, self.port)).is_err() {
            if let Some(status) = self.process.try_wait().context("waiting for nginx")? {
                let said = fs::read_to_string(folder.join("nginx.out")).unwrap_or_default();
                bail!("nginx (Debian package: nginx) ended ({status}): {}", said.trim());
            }
            if began.elapsed() > PATIENCE {
                bail!("nginx does not listen on port {} after {} s", self.port, PATIENCE.as_secs());
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        Ok(())
    }

    /// Its port on 127.0.0.1.
    pub(crate) fn port(&self) -> u16 {
        self.port
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // TERM, not KILL: its workers go with it.
        if let Some(pid) = i32::try_from(self.process.id()).ok().and_then(rustix::process::Pid::from_raw) {
            let _gone = rustix::process::kill_process(pid, rustix::process::Signal::TERM);
        }
        let _gone = self.process.wait();
    }
}

/// nginx cannot choose a port itself.
fn free_port() -> Result<u16> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).context("looking for a free port")?;
    Ok(listener.local_addr().context("looking for a free port")?.port())
}

fn text(root: &Path, folder: &Path, port: u16) -> String {
    let (root, folder) = (root.display(), folder.display());
    // As root, its workers have to read what root reads; otherwise nginx passes over this line with a warning.
    format!(
        r#"user root;
daemon off;
worker_processes 2;
pid "{folder}/pid";
events {{ worker_connections 1024; }}
http {{
  access_log "{folder}/access.log";
  sendfile on; tcp_nopush on; keepalive_timeout 65;
  default_type application/octet-stream;
  client_body_temp_path "{folder}/body"; proxy_temp_path "{folder}/proxy";
  fastcgi_temp_path "{folder}/fastcgi"; uwsgi_temp_path "{folder}/uwsgi"; scgi_temp_path "{folder}/scgi";
  server {{ listen 127.0.0.1:{port} reuseport; root "{root}"; }}
}}
"#
    )
}
