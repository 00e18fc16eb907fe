//! What is asked of the servers, and what one run gives.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use serde::Serialize;

use crate::pi::{BootFiles, Fetch, Pi};
use crate::process::Taken;
use crate::servers::{Kind, Server};
use crate::site::{CLIENTS, Place, Site, noise};
use crate::tftp::Script;
use crate::{http, tftp};

const MIB: usize = 1 << 20;

/// A load.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Load {
    /// So many clients fetch a file of so many KiB each, over a line with this round trip.
    Tftp { clients: u8, milliseconds: u64, kib: usize },
    /// So many connections fetch a file of so many MiB so often.
    Http { connections: usize, mib: usize, requests: usize },
    /// [`CLIENTS`] Pis boot over TFTP at once.
    TftpPis,
    /// The same over HTTP: boot.sig, boot.img.
    HttpPis,
}

/// All of them.
pub(crate) const LOADS: [Load; 10] = [
    Load::Tftp { clients: 1, milliseconds: 0, kib: 64 * 1024 },
    Load::Tftp { clients: 64, milliseconds: 0, kib: 4 * 1024 },
    Load::Tftp { clients: 1, milliseconds: 2, kib: 2 * 1024 },
    Load::Tftp { clients: 64, milliseconds: 2, kib: 2 * 1024 },
    Load::Tftp { clients: 1, milliseconds: 20, kib: 256 },
    Load::Tftp { clients: 64, milliseconds: 20, kib: 256 },
    Load::TftpPis,
    Load::Http { connections: 1, mib: 256, requests: 32 },
    Load::Http { connections: 1000, mib: 1, requests: 8 },
    Load::HttpPis,
];

/// A Pi's boot.img over HTTP.
const BOOT_IMAGE_MIB: usize = 64;

impl fmt::Display for Load {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tftp { clients, milliseconds, .. } => write!(f, "tftp-{clients}-{milliseconds}ms"),
            Self::Http { connections, .. } => write!(f, "http-{connections}"),
            Self::TftpPis => write!(f, "pis-tftp"),
            Self::HttpPis => write!(f, "pis-http"),
        }
    }
}

impl Load {
    /// Who gets it, ours first.
    pub(crate) fn servers(self) -> &'static [Kind] {
        match self {
            Self::Tftp { .. } | Self::TftpPis => &[Kind::Ours, Kind::Dnsmasq, Kind::Tftpd],
            Self::Http { .. } | Self::HttpPis => &[Kind::Ours, Kind::Nginx],
        }
    }

    /// For people.
    pub(crate) fn title(self) -> String {
        let many = |count: usize, what: &str| format!("{count} {what}{}", if count == 1 { "" } else { "s" });
        match self {
            Self::Tftp { clients, milliseconds, .. } => {
                format!("TFTP, {}, {milliseconds} ms", many(clients.into(), "client"))
            }
            Self::Http { connections, .. } => format!("HTTP, {}", many(connections, "connection")),
            Self::TftpPis => format!("{CLIENTS} Pis, TFTP"),
            Self::HttpPis => format!("{CLIENTS} Pis, HTTP"),
        }
    }

    /// Whether the line is the limit, not the server.
    pub(crate) fn waits_for_the_line(self) -> bool {
        matches!(self, Self::Tftp { milliseconds: 1.., .. })
    }
}

/// The files of all loads.
pub(crate) struct Files {
    boot: Arc<BootFiles>,
    /// By their size in KiB.
    tftp: Vec<(usize, Arc<Vec<u8>>)>,
}

impl Files {
    /// Writes them.
    pub(crate) fn put(site: &Site) -> Result<Self> {
        let mut tftp = Vec::new();
        for load in LOADS {
            match load {
                Load::Tftp { kib, .. } => {
                    let bytes = noise(kib * 1024, kib as u64);
                    site.put(&format!("tftp/{kib}.bin"), &bytes)?;
                    tftp.push((kib, Arc::new(bytes)));
                }
                Load::Http { mib, .. } => site.put(&format!("{mib}.bin"), &noise(mib * MIB, mib as u64))?,
                Load::TftpPis => {}
                Load::HttpPis => {
                    site.put("boot.img", &noise(BOOT_IMAGE_MIB * MIB, 5))?;
                    site.put("boot.sig", &noise(600, 5))?;
                }
            }
        }
        Ok(Self { boot: BootFiles::put(site)?, tftp })
    }

    fn tftp(&self, kib: usize) -> Result<Arc<Vec<u8>>> {
        let found = self.tftp.iter().find(|(size, _)| *size == kib);
        found.map(|(_, bytes)| Arc::clone(bytes)).context("a file that was not made")
    }
}

/// What one run gave.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Run {
    #[serde(serialize_with = "crate::load::as_text")]
    pub(crate) load: Load,
    #[serde(serialize_with = "crate::load::name")]
    pub(crate) server: Kind,
    /// MB/s of all clients together.
    pub(crate) rate: f64,
    /// Of the server, for each GB.
    pub(crate) cpu_seconds: f64,
    /// MiB.
    pub(crate) memory: f64,
    /// What of it is no file's, in MiB.
    pub(crate) own_memory: f64,
    /// The last client's time by the mean of all.
    pub(crate) slowest_by_mean: f64,
    /// How often a client had to say something again.
    pub(crate) again: u32,
}

fn as_text<S: serde::Serializer>(load: &Load, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(load)
}

fn name<S: serde::Serializer>(kind: &Kind, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(kind.name())
}

impl fmt::Display for Run {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { rate, cpu_seconds, memory, own_memory, slowest_by_mean, again, .. } = self;
        write!(
            f,
            "{rate:.2} MB/s, CPU {cpu_seconds:.2} s/GB, {memory:.1} MiB ({own_memory:.1} its own), slowest/mean {slowest_by_mean:.2}, said again {again}"
        )
    }
}

/// Puts a load on a server that is started for it alone.
pub(crate) fn run(load: Load, kind: Kind, place: &Place, site: &Site, files: &Files) -> Result<Run> {
    let server = Server::start(kind, site, place)?;
    let watch = server.process.watch();
    let (seconds, bytes, again) = put(load, &server, files)?;
    let Taken { cpu_seconds, memory, own_memory } = watch.end();
    let slowest = seconds.iter().copied().fold(0.0, f64::max);
    let mean = seconds.iter().sum::<f64>() / seconds.len() as f64;
    let (rate, gigabytes) = (bytes as f64 / slowest / 1e6, bytes as f64 / 1e9);
    let cpu_seconds = cpu_seconds / gigabytes;
    let slowest_by_mean = slowest / mean;
    Ok(Run { load, server: kind, rate, cpu_seconds, memory, own_memory, slowest_by_mean, again })
}

/// When each client was done, how many bytes all of them got, and how often they had to ask again.
fn put(load: Load, server: &Server, files: &Files) -> Result<(Vec<f64>, u64, u32)> {
    let place = &server.place;
    let tftp = |clients: Vec<Box<dyn Script>>, milliseconds| {
        let clients = (0..).zip(clients).map(|(number, script)| (place.client(number), script)).collect();
        let outcome = tftp::run(server.tftp(), clients, Duration::from_millis(milliseconds))?;
        Ok((outcome.seconds, outcome.bytes, outcome.again))
    };
    let http = |connections, requests: Vec<String>| {
        let outcome = http::run(server.http(), place, connections, &requests)?;
        Ok((outcome.seconds, outcome.bytes, 0))
    };
    match load {
        Load::Tftp { clients, milliseconds, kib } => {
            let (name, served) = (format!("{kib}.bin"), files.tftp(kib)?);
            let fetch =
                |_| Box::new(Fetch { name: name.clone(), served: Arc::clone(&served) }) as Box<dyn Script>;
            tftp((0..clients).map(fetch).collect(), milliseconds)
        }
        Load::TftpPis => {
            let pi = |number| Box::new(Pi::new(&files.boot, 0x5b15_0000 + number)) as Box<dyn Script>;
            tftp((0..u32::from(CLIENTS)).map(pi).collect(), 0)
        }
        Load::Http { connections, mib, requests } => http(connections, vec![format!("/{mib}.bin"); requests]),
        Load::HttpPis => http(CLIENTS.into(), vec!["/boot.sig".into(), "/boot.img".into()]),
    }
}
