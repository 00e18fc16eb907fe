//! Which mirror and keyring the build host's own apt uses: sources.list(5), both its one-line and its deb822 form.

use anyhow::{Context, Result};
use std::path::{Path, PathBuf};

const DEFAULT_ARCHIVE: &str = "http://deb.debian.org/debian";
const DEFAULT_SECURITY: &str = "http://deb.debian.org/debian-security";
const DEFAULT_KEYRING: &str = "/usr/share/keyrings/debian-archive-keyring.gpg";
const HOST_APT: &str = "/etc/apt";

/// Where Debian's packages come from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mirror {
    /// Address of the archive (`…/debian`).
    pub archive: String,
    /// What signs it.
    pub archive_keyring: PathBuf,
    /// Address of the security updates (`…/debian-security`).
    pub security: String,
    /// What signs them.
    pub security_keyring: PathBuf,
}

/// One source of the host's apt.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Source {
    uri: String,
    signed_by: Option<PathBuf>,
}

/// The host's mirror of Debian; where the host names none, `deb.debian.org` and Debian's own keyring.
///
/// # Errors
/// If the host's lists exist but cannot be read.
pub fn mirror() -> Result<Mirror> {
    Ok(choose(&read_sources(Path::new(HOST_APT))?))
}

fn read_sources(folder: &Path) -> Result<Vec<Source>> {
    let mut files = vec![folder.join("sources.list")];
    if let Ok(entries) = std::fs::read_dir(folder.join("sources.list.d")) {
        let mut more: Vec<_> = entries.filter_map(|entry| Some(entry.ok()?.path())).collect();
        more.sort();
        files.append(&mut more);
    }
    let mut sources = Vec::new();
    for file in files.iter().filter(|file| file.is_file()) {
        let read = || std::fs::read_to_string(file).with_context(|| format!("reading {}", file.display()));
        match file.extension().and_then(|extension| extension.to_str()) {
            Some("list") => sources.extend(one_line(&read()?)),
            Some("sources") => sources.extend(deb822(&read()?)),
            _ => {}
        }
    }
    Ok(sources)
}

fn choose(sources: &[Source]) -> Mirror {
    let find = |last: &str, default: &str| {
        let found = sources.iter().find(|source| {
            let web = source.uri.starts_with("http://") || source.uri.starts_with("https://");
            web && source.uri.trim_end_matches('/').rsplit('/').next() == Some(last)
        });
        let uri = found.map_or(default, |source| source.uri.as_str()).trim_end_matches('/').to_owned();
        let keyring = found.and_then(|source| source.signed_by.clone());
        (uri, keyring.unwrap_or_else(|| DEFAULT_KEYRING.into()))
    };
    let (archive, archive_keyring) = find("debian", DEFAULT_ARCHIVE);
    let (security, security_keyring) = find("debian-security", DEFAULT_SECURITY);
    Mirror { archive, archive_keyring, security, security_keyring }
}

/// `deb [signed-by=/path] URI SUITE COMPONENT…`
fn one_line(text: &str) -> Vec<Source> {
    text.lines().filter_map(one_line_source).collect()
}

fn one_line_source(line: &str) -> Option<Source> {
    let line = line.split('#').next()?.trim();
    let rest = line.strip_prefix("deb")?;
    let rest = rest.strip_prefix(char::is_whitespace)?.trim_start();
    let (options, rest) = match rest.strip_prefix('[') {
        Some(rest) => rest.split_once(']')?,
        None => ("", rest),
    };
    let signed_by =
        options.split_whitespace().find_map(|word| word.strip_prefix("signed-by=")).and_then(keyring);
    Some(Source { uri: rest.split_whitespace().next()?.to_owned(), signed_by })
}

fn deb822(text: &str) -> Vec<Source> {
    let text: String =
        text.lines().filter(|line| !line.starts_with('#')).map(|line| format!("{line}\n")).collect();
    text.split("\n\n").flat_map(deb822_sources).collect()
}

fn deb822_sources(stanza: &str) -> Vec<Source> {
    let field = |name: &str| {
        stanza.lines().find_map(|line| {
            let (key, value) = line.split_once(':')?;
            key.eq_ignore_ascii_case(name).then_some(value.trim())
        })
    };
    let types = field("Types").unwrap_or_default();
    let off = field("Enabled").is_some_and(|value| ["no", "false", "0"].contains(&value));
    if off || !types.split_whitespace().any(|word| word == "deb") {
        return Vec::new();
    }
    let signed_by = field("Signed-By").and_then(keyring);
    let uris = field("URIs").unwrap_or_default().split_whitespace();
    uris.map(|uri| Source { uri: uri.to_owned(), signed_by: signed_by.clone() }).collect()
}

/// A keyring by its path; key blocks inside of the sources and fingerprints are not taken over.
fn keyring(value: &str) -> Option<PathBuf> {
    let first = value.split([',', ' ']).next()?;
    (first.starts_with('/') && Path::new(first).is_file()).then(|| first.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_line_sources() {
        let text = "# deb http://no/debian x main\ndeb-src http://no/debian x main\n\
             deb [arch=amd64 signed-by=/etc/hostname] https://mirror.example/debian/ trixie main # c\n\
             deb http://security.debian.org/debian-security trixie-security main\n";
        let mirror = choose(&one_line(text));
        assert_eq!(mirror.archive, "https://mirror.example/debian");
        assert_eq!(mirror.archive_keyring, Path::new("/etc/hostname"));
        assert_eq!(mirror.security, "http://security.debian.org/debian-security");
        assert_eq!(mirror.security_keyring, Path::new(DEFAULT_KEYRING));
    }

    #[test]
    fn deb822_sources_with_comments_and_a_disabled_one() {
        let text = "Types: deb\nURIs: http://off.example/debian\nSuites: x\nEnabled: no\n\n\
             Types: deb deb-src\n# http://snapshot.example/debian\nURIs: http://m.example/debian\n\
             Suites: bookworm\nSigned-By: /etc/hostname\n\n\
             Types: deb\nURIs: http://m.example/debian-security/\nSuites: bookworm-security\nSigned-By:\n -----BEGIN\n .\n";
        let mirror = choose(&deb822(text));
        assert_eq!(mirror.archive, "http://m.example/debian");
        assert_eq!(mirror.archive_keyring, Path::new("/etc/hostname"));
        assert_eq!(mirror.security, "http://m.example/debian-security");
        assert_eq!(mirror.security_keyring, Path::new(DEFAULT_KEYRING));
    }

    #[test]
    fn a_host_without_debian_gets_the_default() {
        let mirror =
            choose(&one_line("deb http://archive.example/ubuntu noble main\ndeb file:/x/debian y main\n"));
        assert_eq!((mirror.archive.as_str(), mirror.security.as_str()), (DEFAULT_ARCHIVE, DEFAULT_SECURITY));
    }
}
