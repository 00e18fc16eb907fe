//! Who may log in besides those whom the image names: the lines of `lifeboat.authorized_key=`, added to the SSH server's file.

use std::fs::{self, DirBuilder, OpenOptions};
use std::io::{ErrorKind, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::Path;

use anyhow::{Context, Result};

/// Adds the lines that are not there yet; the SSH server reads the file at each login.
pub(super) fn add(path: &Path, lines: &[String]) -> Result<()> {
    if lines.is_empty() {
        return Ok(());
    }
    let text = match fs::read_to_string(path) {
        Ok(text) => text,
        Err(error) if error.kind() == ErrorKind::NotFound => String::new(),
        Err(error) => return Err(error).with_context(|| format!("reading {}", path.display())),
    };
    let mut new: String = lines
        .iter()
        .filter(|line| !text.lines().any(|there| there == line.as_str()))
        .map(|line| format!("{line}\n"))
        .collect();
    if !text.is_empty() && !text.ends_with('\n') {
        new.insert(0, '\n');
    }
    if let Some(folder) = path.parent() {
        let made = DirBuilder::new().recursive(true).mode(0o700).create(folder);
        made.with_context(|| format!("making {}", folder.display()))?;
    }
    let file = OpenOptions::new().append(true).create(true).mode(0o600).open(path);
    file.and_then(|mut file| file.write_all(new.as_bytes()))
        .with_context(|| format!("writing {}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_added_once() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(".ssh/authorized_keys");
        let keys = ["ssh-ed25519 AAAA anna".to_owned(), "ssh-ed25519 BBBB otto".to_owned()];
        add(&path, &keys[..1]).unwrap();
        fs::write(&path, "ssh-ed25519 AAAA anna").unwrap();
        for _ in 0..2 {
            add(&path, &keys).unwrap();
            let text = fs::read_to_string(&path).unwrap();
            assert_eq!(text, "ssh-ed25519 AAAA anna\nssh-ed25519 BBBB otto\n");
        }
        add(Path::new("/no/such"), &[]).unwrap();
    }
}
