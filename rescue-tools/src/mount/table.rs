//! What is mounted: `/proc/self/mountinfo` (proc_pid_mountinfo(5)).

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

/// Where the kernel says it.
const MOUNTINFO: &str = "/proc/self/mountinfo";

/// One mount.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mount {
    /// Where.
    pub at: PathBuf,
    /// What is mounted there: a device's path, as it was said, or a word.
    pub source: PathBuf,
    /// The file system's kind.
    pub kind: String,
    /// Whether it can be written to.
    pub writable: bool,
}

/// All mounts of this process, in the order in which they were made.
pub fn read() -> Result<Vec<Mount>> {
    let text = std::fs::read(MOUNTINFO).with_context(|| format!("reading {MOUNTINFO}"))?;
    Ok(parse(&text))
}

/// The lines of `mountinfo`; one that is not of its format is left out.
pub fn parse(text: &[u8]) -> Vec<Mount> {
    text.split(|byte| *byte == b'\n').filter_map(line).collect()
}

fn line(line: &[u8]) -> Option<Mount> {
    let mut words = line.split(|byte| *byte == b' ');
    let at = words.nth(4)?;
    let options = words.next()?;
    // Optional fields end with a dash.
    words.find(|word| word == b"-")?;
    let kind = words.next()?;
    let source = words.next()?;
    let superblock = words.next()?;
    let is_read_only = |options: &[u8]| options.split(|byte| *byte == b',').any(|option| option == b"ro");
    Some(Mount {
        at: decode(at),
        source: decode(source),
        kind: String::from_utf8_lossy(kind).into_owned(),
        writable: !is_read_only(options) && !is_read_only(superblock),
    })
}

/// Blanks, tabs, line ends, `#` and backslashes are written as `\040` and the like.
pub(super) fn decode(word: &[u8]) -> PathBuf {
    let mut bytes = Vec::with_capacity(word.len());
    let mut rest = word;
    while let [first, after @ ..] = rest {
        let octal = after.get(..3).filter(|_| *first == b'\\');
        let byte = octal.and_then(|digits| u8::from_str_radix(std::str::from_utf8(digits).ok()?, 8).ok());
        bytes.push(byte.unwrap_or(*first));
        rest = after.get(if byte.is_some() { 3 } else { 0 }..).unwrap_or_default();
    }
    PathBuf::from(OsString::from_vec(bytes))
}

/// The mounts at `folder` and below it, in the order in which they can be taken away.
pub fn below<'a>(mounts: &'a [Mount], folder: &Path) -> Vec<&'a Mount> {
    mounts.iter().rev().filter(|mount| mount.at.starts_with(folder)).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const REAL: &[u8] = b"1 1 0:2 / / rw - rootfs rootfs rw,size=447552k,nr_inodes=111888,inode64\n\
        29 28 0:26 / /dev/pts rw,nosuid,noexec,relatime - devpts devpts rw,gid=5,mode=620,ptmxmode=666\n\
        32 1 254:2 / /mnt/r rw,relatime - ext4 /dev/vda2 ro\n\
        33 1 254:96 / /mnt/a\\040b rw,relatime shared:1 master:2 - xfs /dev/vdg rw,attr2,noquota\n\
        34 32 254:96 / /mnt/r/sub ro,relatime - xfs /dev/vdg rw\n";

    #[test]
    fn real_lines() {
        let mounts = parse(REAL);
        assert_eq!(mounts.len(), 5);
        assert_eq!(mounts[3].at, Path::new("/mnt/a b"));
        assert_eq!((mounts[3].kind.as_str(), mounts[3].source.as_path()), ("xfs", Path::new("/dev/vdg")));
        let writable: Vec<bool> = mounts.iter().map(|mount| mount.writable).collect();
        assert_eq!(writable, [true, true, false, true, false]);
        let below: Vec<_> = below(&mounts, Path::new("/mnt/r")).iter().map(|mount| &mount.at).collect();
        assert_eq!(below, [Path::new("/mnt/r/sub"), Path::new("/mnt/r")]);
    }

    #[test]
    fn this_machine_has_a_root() {
        assert!(read().unwrap().iter().any(|mount| mount.at == Path::new("/")));
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200), line in "[\\\\0-9 a-]{0,60}") {
            parse(&bytes);
            parse(line.as_bytes());
            decode(&bytes);
        }

        #[test]
        fn every_path_comes_back(path in proptest::collection::vec(1_u8.., 0..40)) {
            let coded: String = path.iter().map(|byte| format!("\\{byte:03o}")).collect();
            prop_assert_eq!(decode(coded.as_bytes()).into_os_string().into_vec(), path);
        }
    }
}
