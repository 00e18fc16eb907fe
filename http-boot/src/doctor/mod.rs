//! `http-boot doctor`: looks at a site from the server's machine, and says what keeps Pis from booting and what to do.
//!
//! Each check is a file of its own and gives [`Line`]s. It looks and listens; the one thing that it sends is what a Pi's
//! bootloader sends when it is switched on ([`links`]).

mod boot_image;
mod certificate;
mod firewall;
mod links;
mod ports;
mod report;
mod rights;
mod rivals;
mod seen;
mod spanning_tree;
mod tree;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use serde::Serialize;

use crate::fleet::Fleet;
use crate::http::files::Root;
use crate::tls;
pub use report::{json, text};

/// How it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Level {
    /// As it should be.
    Ok,
    /// It could not be looked at.
    Unknown,
    /// It may keep a Pi from booting.
    Warning,
    /// It does.
    Problem,
}

/// What a check found.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Line {
    /// Which check.
    pub check: &'static str,
    /// How it is.
    pub level: Level,
    /// What was found.
    pub found: String,
    /// What to do about it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub advice: Option<String>,
}

impl Line {
    fn ok(check: &'static str, found: impl Into<String>) -> Self {
        Self { check, level: Level::Ok, found: found.into(), advice: None }
    }

    fn new(check: &'static str, level: Level, found: impl Into<String>, advice: impl Into<String>) -> Self {
        Self { check, level, found: found.into(), advice: Some(advice.into()) }
    }
}

/// What there is to look at.
#[derive(Clone, Debug, Default)]
pub struct Subject {
    /// The folder that is served.
    pub root: Option<PathBuf>,
    /// The folder for TFTP, where it is not `tftp` in the root.
    pub tftp_root: Option<PathBuf>,
    /// The fleet's file.
    pub fleet: Option<PathBuf>,
    /// The state folder of a server, which may be running.
    pub state: Option<PathBuf>,
    /// The certificate and its key.
    pub tls: Option<tls::Files>,
    /// The names and addresses that EEPROMs have as `HTTP_HOST`.
    pub names: Vec<String>,
    /// The interfaces that Pis are on; all that have an address, where none is named.
    pub interfaces: Vec<String>,
    /// Where HTTP is to listen.
    pub listen: Vec<SocketAddr>,
    /// For how long to listen for answers.
    pub wait: Duration,
}

/// Looks at all of it.
pub fn examine(subject: &Subject) -> Vec<Line> {
    let mut lines = rights::check();
    lines.extend(ports::check(&subject.listen));
    lines.extend(firewall::check());
    lines.extend(links::check(&subject.interfaces, subject.wait));
    let root = subject.root.as_ref().and_then(|path| match Root::open(path) {
        Ok(root) => Some(root),
        Err(error) => {
            lines.push(Line::new("root", Level::Problem, format!("{error:#}"), "make it, or correct --root"));
            None
        }
    });
    if let Some(path) = &subject.fleet {
        lines.extend(fleet(path, root.as_ref()));
    }
    if let (Some(path), Some(_)) = (&subject.root, &root) {
        lines.extend(boot_image::check(path));
    }
    let tree = subject.tftp_root.clone().or_else(|| subject.root.as_ref().map(|root| root.join("tftp")));
    if let Some(tree) = tree.filter(|tree| subject.tftp_root.is_some() || tree.is_dir()) {
        lines.extend(tree::check(&tree));
    }
    if let Some(files) = &subject.tls {
        lines.extend(certificate::check(files, &subject.names));
    }
    if let Some(state) = &subject.state {
        lines.extend(seen::check(state));
    }
    lines
}

/// Whether something keeps Pis from booting.
pub fn is_ill(lines: &[Line]) -> bool {
    lines.iter().any(|line| line.level == Level::Problem)
}

fn fleet(path: &std::path::Path, root: Option<&Root>) -> Vec<Line> {
    match Fleet::read(path, root) {
        Ok(fleet) => {
            let devices = fleet.devices().len();
            vec![Line::ok("fleet", format!("{} is right; it names {devices} devices", path.display()))]
        }
        Err(findings) => findings
            .0
            .iter()
            .map(|finding| {
                Line::new(
                    "fleet",
                    Level::Problem,
                    finding,
                    "a server does not start with it, nor take the change",
                )
            })
            .collect(),
    }
}
