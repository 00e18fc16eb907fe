//! From a request's path to a path below the served folder.

use std::ffi::OsString;
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
            let name = decode(encoded)?;
            if name.first() == Some(&b'.') || name.contains(&b'/') || name.contains(&0) {
                return Err(PathError::NotServed);
            }
            names.push(OsString::from_vec(name));
        }
        if path.ends_with('/') || names.as_os_str().is_empty() {
            Err(PathError::Folder)
        } else {
            Ok(Self(names))
        }
    }

    /// The path, relative to the root.
    pub fn as_path(&self) -> &Path {
        &self.0
    }
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

    proptest! {
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
