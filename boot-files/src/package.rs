//! A package as its repository's index describes it.

use anyhow::{Context, Result, ensure};
use serde::Serialize;

/// A package that can be downloaded.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Package {
    /// Its name.
    pub name: String,
    /// Its version.
    pub version: String,
    /// `arm64` or `all`.
    pub architecture: String,
    /// Size of the .deb, in bytes.
    pub size: u64,
    /// SHA-256 of the .deb, 64 hexadecimal digits.
    pub sha256: String,
    /// `Pre-Depends` and `Depends`: for each, the alternatives' names.
    #[serde(skip)]
    pub depends: Vec<Vec<String>>,
}

impl Package {
    /// The name that apt gives to the downloaded file.
    pub fn file_name(&self) -> String {
        format!("{}_{}_{}.deb", self.name, self.version.replace(':', "%3a"), self.architecture)
    }
}

/// Parses what `apt-cache show` prints: stanzas with blank lines between them.
///
/// # Errors
/// If a stanza lacks a field or has a bad one.
pub fn parse_index(text: &str) -> Result<Vec<Package>> {
    text.split("\n\n").filter(|stanza| !stanza.trim().is_empty()).map(parse).collect()
}

fn parse(stanza: &str) -> Result<Package> {
    let field = |name: &str| {
        stanza.lines().find_map(|line| {
            line.split_once(": ").filter(|(key, _)| *key == name).map(|(_, value)| value.trim())
        })
    };
    let name = field("Package").context("an entry of the package index has no name")?.to_owned();
    let need = |key: &str| field(key).with_context(|| format!("the package index has no {key} for {name}"));
    let sha256 = need("SHA256")?.to_ascii_lowercase();
    ensure!(
        sha256.len() == 64 && sha256.bytes().all(|byte| byte.is_ascii_hexdigit()),
        "the package index has a bad SHA256 for {name}: {sha256:?}"
    );
    let size =
        need("Size")?.parse().with_context(|| format!("the package index has a bad Size for {name}"))?;
    let mut depends = relation(field("Pre-Depends").unwrap_or_default());
    depends.extend(relation(field("Depends").unwrap_or_default()));
    Ok(Package {
        version: need("Version")?.to_owned(),
        architecture: need("Architecture")?.to_owned(),
        size,
        sha256,
        depends,
        name,
    })
}

/// `a (>= 1), b:any | c` → `[[a], [b, c]]`
fn relation(text: &str) -> Vec<Vec<String>> {
    let name = |alternative: &str| {
        let word = alternative.trim().split([' ', '(', '[', ':']).next().unwrap_or_default();
        (!word.is_empty()).then(|| word.to_owned())
    };
    text.split(',')
        .map(|group| group.split('|').filter_map(name).collect::<Vec<_>>())
        .filter(|group| !group.is_empty())
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_stanza() {
        let text = format!(
            "Package: lvm2\nArchitecture: arm64\nVersion: 1:2.03-2\nDepends: libaio1t64 (>= 0.3), a:any | b [arm64]\n\
             Pre-Depends: libc6\nDescription: x\n Package: no\nSize: 12\nSHA256: {}\n\n",
            "A".repeat(64)
        );
        let [package] = &parse_index(&text).unwrap()[..] else { panic!() };
        assert_eq!(package.file_name(), "lvm2_1%3a2.03-2_arm64.deb");
        assert_eq!(package.depends, [vec!["libc6"], vec!["libaio1t64"], vec!["a", "b"]]);
        assert_eq!((package.size, &package.sha256), (12, &"a".repeat(64)));
    }

    proptest! {
        #[test]
        fn any_text_is_parsed_or_refused(text in "(Package: [a-z]{1,3}\n|Size: [0-9x]{1,3}\n|SHA256: [a-f]{60,64}\n|.{0,9}\n)*") {
            let _ = parse_index(&text);
        }
    }
}
