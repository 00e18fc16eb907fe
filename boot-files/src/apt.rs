//! apt with a root of its own: its lists, its archives, its repositories, and of the host's configuration nothing but
//! how to reach the network. apt checks the repositories' signatures and every hash on the way down.

use crate::cache::Cache;
use crate::config::Repository;
use crate::digest;
use crate::package::{self, Package};
use crate::progress::Progress;
use anyhow::{Context, Result, bail, ensure};
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, SystemTime};

/// Lists older than this are refreshed.
const LISTS_AGE: Duration = Duration::from_secs(24 * 3600);

/// apt's own downloader, which is in no PATH.
const HELPER: &str = "/usr/lib/apt/apt-helper";

/// When to fetch the lists anew.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refresh {
    /// If they are older than a day.
    WhenOld,
    /// Now.
    Now,
    /// Never: work from the cache alone.
    Never,
}

/// An apt for a set of repositories.
#[derive(Debug)]
pub struct Apt {
    root: PathBuf,
    keyrings: Vec<PathBuf>,
}

impl Apt {
    /// The apt of these repositories in the cache. Each set of repositories and keys has lists of its own.
    ///
    /// # Errors
    /// If a keyring cannot be read, or the folder cannot be written.
    pub fn open(cache: &Cache, repositories: &[Repository]) -> Result<Apt> {
        let mut key = serde_json::to_string(repositories)?;
        for repository in repositories {
            let ring = &repository.signed_by;
            let content =
                std::fs::read(ring).with_context(|| format!("reading the keyring {}", ring.display()))?;
            key.push_str(&digest::hex(&content));
        }
        let hash = digest::hex(key.as_bytes());
        let root = cache.folder().join("apt").join(hash.get(..16).unwrap_or(&hash));
        let apt = Apt { root, keyrings: repositories.iter().map(|r| r.signed_by.clone()).collect() };
        apt.lay_out(repositories).with_context(|| format!("setting up apt in {}", apt.root.display()))?;
        Ok(apt)
    }

    fn lay_out(&self, repositories: &[Repository]) -> Result<()> {
        for folder in ["sources", "keys", "lists/partial", "archives/partial", "cache"] {
            std::fs::create_dir_all(self.root.join(folder))?;
        }
        std::fs::write(self.root.join("status"), "")?;
        let mut sources = String::new();
        for (number, (repository, ring)) in repositories.iter().zip(&self.keyrings).enumerate() {
            let extension = ring.extension().and_then(|e| e.to_str()).unwrap_or("gpg");
            let key = self.root.join("keys").join(format!("{number}.{extension}"));
            std::fs::write(&key, std::fs::read(ring)?)?;
            writeln!(
                sources,
                "Types: deb\nURIs: {}\nSuites: {}\n{}Signed-By: {}\n",
                repository.uris.join(" "),
                repository.suites.join(" "),
                match repository.components.join(" ") {
                    components if components.is_empty() => String::new(),
                    components => format!("Components: {components}\n"),
                },
                key.display()
            )?;
        }
        std::fs::write(self.root.join("sources/lifeboat.sources"), sources)?;
        std::fs::write(self.root.join("apt.conf"), self.configuration())?;
        Ok(())
    }

    /// apt.conf(5). Read by way of APT_CONFIG, before and instead of the host's own files.
    fn configuration(&self) -> String {
        let mut text = String::from(
            "Dir::Etc::main \"/dev/null\";\nDir::Etc::parts \"/dev/null\";\nDir::Etc::sourcelist \"/dev/null\";\n\
             Dir::Etc::trusted \"/dev/null\";\nDir::Etc::trustedparts \"/dev/null\";\n\
             Dir::Etc::preferences \"/dev/null\";\nDir::Etc::preferencesparts \"/dev/null\";\n\
             Dir::Etc::netrc \"/etc/apt/auth.conf\";\nDir::Etc::netrcparts \"/etc/apt/auth.conf.d\";\n\
             APT::Architecture \"arm64\";\nAPT::Architectures { \"arm64\"; };\nAPT::Sandbox::User \"root\";\n\
             APT::Update::Error-Mode \"any\";\nAcquire::Languages \"none\";\nAcquire::Retries \"3\";\n\
             Acquire::IndexTargets::deb::Contents-deb::DefaultEnabled \"false\";\nAPT::Install-Recommends \"false\";\n",
        );
        let root = self.root.display();
        for (key, folder) in [
            ("Dir::Etc::sourceparts", "/sources"),
            ("Dir::State", ""),
            ("Dir::State::lists", "/lists"),
            ("Dir::State::status", "/status"),
            ("Dir::Cache", "/cache"),
            ("Dir::Cache::archives", "/archives"),
        ] {
            text.push_str(&format!("{key} \"{root}{folder}\";\n"));
        }
        text + &host_network()
    }

    fn command(&self, program: &str) -> Command {
        let mut command = Command::new(program);
        command.env("APT_CONFIG", self.root.join("apt.conf")).env("LC_ALL", "C.UTF-8").stdin(Stdio::null());
        command
    }

    /// Fetches the lists, if they are to be.
    ///
    /// # Errors
    /// If a signature is bad, a repository has no such suite, or there is no network and no earlier list.
    pub fn update(&self, refresh: Refresh, progress: &Progress) -> Result<()> {
        let stamp = self.root.join("updated");
        let age = || SystemTime::now().duration_since(stamp.metadata().ok()?.modified().ok()?).ok();
        let (have, fresh) = (stamp.exists(), age().is_some_and(|age| age < LISTS_AGE));
        ensure!(
            have || refresh != Refresh::Never,
            "--offline: the cache has no package lists for this config yet"
        );
        if refresh == Refresh::Never || (fresh && refresh == Refresh::WhenOld) {
            return Ok(());
        }
        progress.step("fetching the package lists");
        let output =
            self.command("apt-get").args(["update", "-q"]).output().context("running apt-get update")?;
        let said = String::from_utf8_lossy(&output.stderr);
        if output.status.success() {
            std::fs::write(&stamp, "")?;
            return Ok(());
        }
        if have && refresh == Refresh::WhenOld && only_network(&said) {
            progress.warn("the mirror cannot be reached: building from the package lists of the last time");
            return Ok(());
        }
        bail!("fetching the package lists: {}", one_line(&said))
    }

    /// The candidates of these packages, by name. One that does not exist is missing from the answer.
    ///
    /// # Errors
    /// If apt-cache fails.
    pub fn show<'a>(&self, names: impl IntoIterator<Item = &'a str>) -> Result<BTreeMap<String, Package>> {
        let names: Vec<_> = names.into_iter().collect();
        if names.is_empty() {
            return Ok(BTreeMap::new());
        }
        let output = self
            .command("apt-cache")
            .args(["show", "--no-all-versions", "--"])
            .args(&names)
            .output()
            .context("running apt-cache show")?;
        let packages = package::parse_index(&String::from_utf8_lossy(&output.stdout))?;
        let said = String::from_utf8_lossy(&output.stderr);
        let unknown = said.lines().all(|line| !line.starts_with("E: ") || line.contains("No packages found"));
        ensure!(output.status.success() || unknown, "running apt-cache show: {}", one_line(&said));
        Ok(packages.into_iter().map(|package| (package.name.clone(), package)).collect())
    }

    /// Downloads what is not in the cache yet, and checks size and SHA-256 of all. An interrupted download goes on where
    /// it was.
    ///
    /// # Errors
    /// If a download fails or a file is not what the signed index says.
    pub fn fetch(&self, packages: &[&Package], progress: &Progress) -> Result<()> {
        let missing: Vec<_> = packages.iter().copied().filter(|package| !self.has(package)).collect();
        if !missing.is_empty() {
            self.download(&missing, progress)?;
        }
        for package in &missing {
            check(&self.partial(package), package)?;
            let archive = self.archive(package);
            std::fs::rename(self.partial(package), &archive)
                .with_context(|| format!("moving {} into place", archive.display()))?;
        }
        packages.iter().try_for_each(|package| check(&self.archive(package), package))
    }

    /// Where apt would get these packages from: address, by the name of the file.
    fn addresses(&self, packages: &[&Package]) -> Result<BTreeMap<String, String>> {
        let output = self
            .command("apt-get")
            .args(["download", "--print-uris"])
            .args(packages.iter().map(|package| format!("{}={}", package.name, package.version)))
            .output()
            .context("running apt-get download")?;
        let said = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success(), "downloading packages: {}", one_line(&said));
        let text = String::from_utf8_lossy(&output.stdout);
        Ok(text.lines().filter_map(address).collect())
    }

    /// apt-helper, not `apt-get download`: only the former goes on where an interrupted download ended.
    fn download(&self, packages: &[&Package], progress: &Progress) -> Result<()> {
        let total: u64 = packages.iter().map(|package| package.size).sum();
        let bar = progress.download(&format!("downloading {} packages", packages.len()), total);
        let addresses = self.addresses(packages)?;
        let mut command = self.command(HELPER);
        command.args(["download-file", "-q", "-o", "APT::Status-Fd=1"]);
        for package in packages {
            let address = addresses.get(&package.file_name());
            let address =
                address.with_context(|| format!("apt knows no address for {}", package.file_name()))?;
            command.arg(address).arg(self.partial(package)).arg(format!("SHA256:{}", package.sha256));
        }
        let mut child = command
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .with_context(|| format!("running {HELPER}"))?;
        if let Some(stdout) = child.stdout.take() {
            for line in BufReader::new(stdout).lines() {
                if let Some(percent) = download_percent(&line?) {
                    bar.set(percent);
                }
            }
        }
        let mut said = String::new();
        if let Some(mut stderr) = child.stderr.take() {
            stderr.read_to_string(&mut said)?;
        }
        let status = child.wait()?;
        ensure!(status.success(), "downloading packages: {}", one_line(&said));
        Ok(())
    }

    /// Where a package is while it is downloaded.
    fn partial(&self, package: &Package) -> PathBuf {
        self.root.join("archives/partial").join(package.file_name())
    }

    fn has(&self, package: &Package) -> bool {
        self.archive(package).metadata().is_ok_and(|metadata| metadata.len() == package.size)
    }

    /// Where a downloaded package is.
    pub fn archive(&self, package: &Package) -> PathBuf {
        self.root.join("archives").join(package.file_name())
    }

    /// The repositories' signed Release files: name and content.
    ///
    /// # Errors
    /// If the lists cannot be read.
    pub fn releases(&self) -> Result<Vec<(String, String)>> {
        let lists = self.root.join("lists");
        let mut releases = Vec::new();
        for entry in std::fs::read_dir(&lists).with_context(|| format!("reading {}", lists.display()))? {
            let path = entry?.path();
            let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            if name.ends_with("Release") {
                let text = std::fs::read(&path).with_context(|| format!("reading {}", path.display()))?;
                releases.push((name, String::from_utf8_lossy(&text).into_owned()));
            }
        }
        releases.sort();
        Ok(releases)
    }
}

/// Checks a downloaded file against the signed index; a bad one is removed.
fn check(path: &Path, package: &Package) -> Result<()> {
    let sum = digest::of_file(path).with_context(|| format!("checking {}", path.display()))?;
    if sum != package.sha256 {
        std::fs::remove_file(path).with_context(|| format!("removing {}", path.display()))?;
        bail!("{} had SHA-256 {sum}, but its index says {}", path.display(), package.sha256);
    }
    Ok(())
}

/// `'http://…/a_1_arm64.deb' a_1_arm64.deb 1234 SHA256:…` → the file's name and its address
fn address(line: &str) -> Option<(String, String)> {
    let (address, rest) = line.strip_prefix('\'')?.split_once("' ")?;
    Some((rest.split(' ').next()?.to_owned(), address.to_owned()))
}

/// How the host reaches the network: its proxies and TLS settings.
fn host_network() -> String {
    let dump = Command::new("apt-config").arg("dump").stdin(Stdio::null()).output();
    let text = dump.map(|output| String::from_utf8_lossy(&output.stdout).into_owned()).unwrap_or_default();
    text.lines()
        .filter(|line| line.starts_with("Acquire::http") || line.starts_with("Acquire::https"))
        .map(|line| format!("{line}\n"))
        .collect()
}

/// `dlstatus:4:21.7612:Retrieving file 4 of 4` → 21.7612
fn download_percent(line: &str) -> Option<f64> {
    line.strip_prefix("dlstatus:")?
        .split(':')
        .nth(1)?
        .parse()
        .ok()
        .filter(|percent| (0.0..=100.0).contains(percent))
}

/// Whether apt failed for nothing but a network that is not there.
fn only_network(said: &str) -> bool {
    const NETWORK: [&str; 8] = [
        "Could not resolve",
        "Temporary failure resolving",
        "Could not connect",
        "Unable to connect",
        "Cannot initiate the connection",
        "Connection timed out",
        "Connection failed",
        "Some index files failed to download",
    ];
    let mut errors = said.lines().filter(|line| line.starts_with("E: ")).peekable();
    errors.peek().is_some() && errors.all(|line| NETWORK.iter().any(|words| line.contains(words)))
}

/// What apt said, as one line: its errors, or else all.
fn one_line(said: &str) -> String {
    let errors: Vec<_> = said.lines().filter_map(|line| line.strip_prefix("E: ")).collect();
    let lines = if errors.is_empty() { said.lines().map(str::trim).collect() } else { errors };
    let text = lines.into_iter().filter(|line| !line.is_empty()).collect::<Vec<_>>().join("; ");
    if text.is_empty() { "apt gave no reason".to_owned() } else { text }
}

/// The newest `Date:` of these Release files, in Unix seconds.
///
/// # Errors
/// If none has a date.
pub fn newest_date(releases: &[(String, String)]) -> Result<u64> {
    let dates = releases.iter().filter_map(|(_, text)| {
        let date = text.lines().find_map(|line| line.strip_prefix("Date: "))?;
        // Debian writes the zone as "UTC", which RFC 2822 does not know.
        let date = jiff::fmt::rfc2822::parse(&date.trim().replace("UTC", "+0000")).ok()?;
        u64::try_from(date.timestamp().as_second()).ok()
    });
    dates.max().context("no repository says when it was made (no Date in its Release file)")
}

/// Whether the tools that this file runs are there.
///
/// # Errors
/// If apt is not installed.
pub fn check_host() -> Result<()> {
    for (program, package) in [("apt-get", "apt"), ("dpkg-deb", "dpkg"), ("depmod", "kmod")] {
        let path = std::env::var_os("PATH").unwrap_or_default();
        let mut folders = std::env::split_paths(&path).chain([PathBuf::from("/usr/sbin"), "/sbin".into()]);
        ensure!(
            folders.any(|folder| Path::new(&folder).join(program).is_file()),
            "{program} is missing: install the Debian package {package}"
        );
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn apt_s_words() {
        assert_eq!(download_percent("dlstatus:4:21.5:Retrieving file 4 of 4"), Some(21.5));
        assert_eq!(download_percent("Get:4 http://x"), None);
        let line = "'http://m/a_1%253a2_arm64.deb' a_1%3a2_arm64.deb 12 SHA256:00";
        assert_eq!(address(line), Some(("a_1%3a2_arm64.deb".into(), "http://m/a_1%253a2_arm64.deb".into())));
        assert!(only_network("W: x\nE: Failed to fetch http://a  Could not resolve 'a'\n"));
        assert!(!only_network("E: Could not resolve 'a'\nE: The repository 'x' is not signed.\n"));
        assert!(!only_network(""));
        assert_eq!(one_line("W: a\nE: b\nE: c\n"), "b; c");
    }

    #[test]
    fn the_newest_date_counts() {
        let release = |date: &str| ("x".to_owned(), format!("Origin: Debian\nDate: {date}\nx: y\n"));
        let all = [release("Sat, 06 Sep 2025 08:17:19 UTC"), release("Fri, 05 Sep 2025 08:17:19 UTC")];
        assert_eq!(newest_date(&all).unwrap(), 1_757_146_639);
        assert!(newest_date(&[release("soon")]).is_err());
    }
}
