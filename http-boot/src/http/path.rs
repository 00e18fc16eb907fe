//! From a request's path to a path below the served folder.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};

use percent_encoding::percent_decode_str;

/// A path below the root: one or more names, none of which is empty, starts with a dot, or has a slash or NUL in it. It
/// can therefore not climb (`..`) nor name a dotfile. (Symlinks are [`super::files`]' matter.)
///
/// Held by `path_stays_below` and `names_survive` below.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FilePath(PathBuf);

/// Why a request's path names no file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PathError {
    /// `%` without two hexadecimal digits.
    #[error("the path has a % that is not followed by two hexadecimal digits")]
    BadEscape,
    /// A name that is never served: it starts with a dot, or has an encoded slash or NUL.
    #[error("no such file")]
    NotServed,
    /// A folder: no name, or a slash at the end.
    #[error("no such file (folders are not listed)")]
    Folder,
}

impl FilePath {
    /// Parses the path of a request, as it came: percent-encoded, with a leading slash. Doubled slashes count as one, as
    /// a bootloader makes them from an `HTTP_PATH` that has one at an end.
    ///
    /// # Errors
    /// See [`PathError`].
    pub fn parse(path: &str) -> Result<Self, PathError> {
        let mut names = PathBuf::new();
        for encoded in path.split('/').filter(|name| !name.is_empty()) {
            names.push(checked(decode(encoded)?)?);
        }
        if path.ends_with('/') || names.as_os_str().is_empty() {
            Err(PathError::Folder)
        } else {
            Ok(Self(names))
        }
    }

    /// Takes names as they are, as TFTP has them. Slashes at the beginning and doubled ones count for nothing, as
    /// bootloaders make them from prefixes; a backslash is no slash, and in no file's name.
    ///
    /// # Errors
    /// See [`PathError`].
    pub fn literal(path: &[u8]) -> Result<Self, PathError> {
        let mut names = PathBuf::new();
        for name in path.split(|b| *b == b'/').filter(|name| !name.is_empty()) {
            if name.contains(&b'\\') {
                return Err(PathError::NotServed);
            }
            names.push(checked(name.to_vec())?);
        }
        if path.ends_with(b"/") || names.as_os_str().is_empty() {
            Err(PathError::Folder)
        } else {
            Ok(Self(names))
        }
    }

    /// Its first name and the path behind that, if there is more than one.
    pub fn split_first(&self) -> Option<(&OsStr, Self)> {
        let mut names = self.0.iter();
        let (first, rest) = (names.next()?, names.as_path());
        (!rest.as_os_str().is_empty()).then(|| (first, Self(rest.to_owned())))
    }

    /// This path in another one's folder.
    #[must_use]
    pub fn below(&self, folder: &Self) -> Self {
        Self(folder.0.join(&self.0))
    }

    /// The path, relative to the root.
    pub fn as_path(&self) -> &Path {
        &self.0
    }
}

/// A name that may be one of a path's.
fn checked(name: Vec<u8>) -> Result<OsString, PathError> {
    if name.first() == Some(&b'.') || name.contains(&b'/') || name.contains(&0) {
        return Err(PathError::NotServed);
    }
    Ok(OsString::from_vec(name))
}

fn decode(encoded: &str) -> Result<Vec<u8>, PathError> {
    let mut rest = encoded;
    while let Some((_, after)) = rest.split_once('%') {
        let digits = after.as_bytes().get(..2).ok_or(PathError::BadEscape)?;
        if !digits.iter().all(u8::is_ascii_hexdigit) {
            return Err(PathError::BadEscape);
        }
        rest = after.get(2..).unwrap_or_default();
    }
    Ok(percent_decode_str(encoded).collect())
}

#[cfg(test)]
mod tests {
    use std::os::unix::ffi::OsStrExt;
    use std::path::Component;

    use percent_encoding::{NON_ALPHANUMERIC, percent_encode};
    use proptest::prelude::*;

    use super::*;

    fn parse(path: &str) -> Result<String, PathError> {
        FilePath::parse(path).map(|p| p.as_path().display().to_string())
    }

    #[test]
    fn paths() {
        assert_eq!(parse("/boot.img").unwrap(), "boot.img");
        assert_eq!(parse("//pi//boot.sig").unwrap(), "pi/boot.sig");
        assert_eq!(parse("/a%20b/%2562").unwrap(), "a b/%62");
        assert_eq!(parse("/a%2").unwrap_err(), PathError::BadEscape);
        assert_eq!(parse("/a%zz").unwrap_err(), PathError::BadEscape);
        assert_eq!(parse("/%é").unwrap_err(), PathError::BadEscape);
        for folder in ["", "/", "//", "/pi/", "*/"] {
            assert_eq!(parse(folder).unwrap_err(), PathError::Folder, "{folder}");
        }
        for hidden in [
            "/..",
            "/../etc/passwd",
            "/pi/../../etc/passwd",
            "/%2e%2e/etc",
            "/.%2E/x",
            "/..%2fetc",
            "/a%2fb",
            "/.git",
            "/a/.b",
            "/%2egit",
            "/a%00",
            "/./a",
        ] {
            assert_eq!(parse(hidden).unwrap_err(), PathError::NotServed, "{hidden}");
        }
    }

    #[test]
    fn literal_paths() {
        let parse =
            |path: &str| FilePath::literal(path.as_bytes()).map(|p| p.as_path().display().to_string());
        assert_eq!(parse("start4.elf").unwrap(), "start4.elf");
        assert_eq!(parse("/9ffefdef//start4.elf").unwrap(), "9ffefdef/start4.elf");
        assert_eq!(parse("a%2e b").unwrap(), "a%2e b");
        for folder in ["", "/", "//", "a/"] {
            assert_eq!(parse(folder).unwrap_err(), PathError::Folder, "{folder}");
        }
        for hidden in ["..", "../x", "a/../x", "./a", ".a", "a/.b", "..\\x", "a\\b", "a\0b"] {
            assert_eq!(parse(hidden).unwrap_err(), PathError::NotServed, "{hidden}");
        }
        let path = FilePath::literal(b"a/b/c").unwrap();
        let (first, rest) = path.split_first().unwrap();
        assert_eq!((first.to_str().unwrap(), rest.as_path()), ("a", Path::new("b/c")));
        assert!(FilePath::literal(b"a").unwrap().split_first().is_none());
        assert_eq!(rest.below(&path).as_path(), Path::new("a/b/c/b/c"));
    }

    proptest! {
        #[test]
        fn literal_path_stays_below(path in prop::collection::vec(prop_oneof![Just(b'/'), Just(b'.'), Just(b'a'), any::<u8>()], 0..24)) {
            if let Ok(path) = FilePath::literal(&path) {
                prop_assert!(path.as_path().is_relative());
                for component in path.as_path().components() {
                    let Component::Normal(name) = component else { panic!("{component:?}") };
                    prop_assert!(!name.as_bytes().starts_with(b"."));
                    prop_assert!(!name.as_bytes().iter().any(|b| [0, b'\\'].contains(b)));
                }
            }
        }

        #[test]
        fn path_stays_below(path in "(/|\\.|%2e|%2F|%00|%|[a-c%é]|\\PC){0,24}") {
            if let Ok(path) = FilePath::parse(&path) {
                prop_assert!(path.as_path().is_relative());
                for component in path.as_path().components() {
                    let Component::Normal(name) = component else { panic!("{component:?}") };
                    prop_assert!(!name.as_bytes().starts_with(b"."));
                    prop_assert!(!name.as_bytes().contains(&0));
                }
            }
        }

        #[test]
        fn names_survive(names in prop::collection::vec(prop::collection::vec(1u8.., 1..9), 1..5)) {
            let ok = names.iter().all(|n| n[0] != b'.' && !n.contains(&b'/'));
            let path: String = names.iter().map(|n| format!("/{}", percent_encode(n, NON_ALPHANUMERIC))).collect();
            match FilePath::parse(&path) {
                Ok(parsed) => prop_assert!(ok && parsed.as_path().as_os_str().as_bytes() == names.join(&b'/')),
                Err(error) => prop_assert!(!ok && error == PathError::NotServed),
            }
        }
    }
}
