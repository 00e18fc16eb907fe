//! Where the bench happens: clients in one network namespace, each server in another, a veth pair between them; and the
//! files that all of them serve.

use std::fs::{self, File};
use std::net::Ipv4Addr;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

/// So many clients have an address of their own.
pub(crate) const CLIENTS: u8 = 64;

/// Namespaces of this run; they go when this is dropped.
#[derive(Debug)]
pub(crate) struct Site {
    /// The folder of everything: files, settings, logs.
    pub(crate) folder: PathBuf,
    /// Our server.
    pub(crate) http_boot: PathBuf,
    names: Vec<String>,
}

/// A server's place: its namespace, and who is who on the line to it (198.18.0.0/15 is for benchmarks, RFC 2544).
#[derive(Clone, Debug)]
pub(crate) struct Place {
    pub(crate) namespace: String,
    network: u8,
}

impl Place {
    /// The server's address.
    pub(crate) fn server(&self) -> Ipv4Addr {
        Ipv4Addr::new(198, 18, self.network, 1)
    }

    /// A client's address. They are counted from 0.
    pub(crate) fn client(&self, number: u8) -> Ipv4Addr {
        Ipv4Addr::new(198, 18, self.network, 101 + number % CLIENTS)
    }
}

impl Site {
    /// Makes the clients' namespace and moves this thread there.
    pub(crate) fn enter(folder: &Path, http_boot: &Path) -> Result<Self> {
        fs::create_dir_all(folder).with_context(|| format!("making the folder {}", folder.display()))?;
        let folder = folder.canonicalize().context("looking for the bench's folder")?;
        let http_boot =
            http_boot.canonicalize().with_context(|| format!("looking for {}", http_boot.display()))?;
        let mut site = Self { folder, http_boot, names: Vec::new() };
        let name = format!("bench{}", std::process::id());
        site.add(&name)?;
        let path = Path::new("/run/netns").join(&name);
        let file = File::open(&path).with_context(|| format!("opening {}", path.display()))?;
        move_into_link_name_space(file.as_fd(), Some(LinkNameSpaceType::Network))
            .context("moving into the clients' namespace")?;
        Ok(site)
    }

    fn add(&mut self, name: &str) -> Result<()> {
        ip(&format!("netns add {name}"))?;
        self.names.push(name.to_owned());
        ip(&format!("-n {name} link set lo up"))
    }

    /// A place for one more server.
    pub(crate) fn place(&mut self) -> Result<Place> {
        let network = u8::try_from(self.names.len()).context("counting namespaces")?;
        let clients = self.names.first().context("there is no namespace of clients")?.clone();
        let namespace = format!("{clients}s{network}");
        self.add(&namespace)?;
        let (near, far) = (format!("c{network}"), format!("s{network}"));
        ip(&format!("link add {near} type veth peer name {far} netns {namespace}"))?;
        let place = Place { namespace: namespace.clone(), network };
        ip(&format!("-n {namespace} addr add {}/24 dev {far}", place.server()))?;
        ip(&format!("-n {namespace} link set {far} up"))?;
        for number in 0..CLIENTS {
            ip(&format!("addr add {}/24 dev {near}", place.client(number)))?;
        }
        ip(&format!("link set {near} up"))?;
        Ok(place)
    }

    /// Writes a file for all servers: below `root` for HTTP, below `root/tftp` for TFTP.
    pub(crate) fn put(&self, name: &str, bytes: &[u8]) -> Result<()> {
        let path = self.folder.join("root").join(name);
        let write = || {
            fs::create_dir_all(path.parent().unwrap_or(&path))?;
            fs::write(&path, bytes)
        };
        write().with_context(|| format!("writing {}", path.display()))
    }
}

impl Drop for Site {
    fn drop(&mut self) {
        for name in self.names.iter().rev() {
            let _gone = ip(&format!("netns del {name}"));
        }
    }
}

fn ip(words: &str) -> Result<()> {
    let status = Command::new("ip").args(words.split(' ')).status();
    let status = status.context("starting ip (Debian package: iproute2)")?;
    ensure!(status.success(), "`ip {words}`: {status} (it needs root, and a kernel with veth)");
    Ok(())
}

/// Bytes without a short period, so that a piece from a wrong place is noticed.
pub(crate) fn noise(length: usize, seed: u64) -> Vec<u8> {
    let mut state = seed | 1;
    let mut bytes = Vec::with_capacity(length + 8);
    while bytes.len() < length {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        bytes.extend(state.to_le_bytes());
    }
    bytes.truncate(length);
    bytes
}
