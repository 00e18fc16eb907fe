//! A file's validators, and the request headers that depend on them (RFC 9110, section 13).

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use axum::http::{HeaderMap, HeaderName, header};
use rustix::fs::Stat;

/// What tells one version of a file from another: identity, size and times.
#[derive(Clone, Debug)]
pub struct Version {
    device: u64,
    inode: u64,
    /// In bytes.
    pub size: u64,
    modified: (i64, u64),
    changed: (i64, u64),
    links: u64,
}

impl From<&Stat> for Version {
    #[allow(clippy::unnecessary_cast, reason = "the fields' types differ between architectures")]
    fn from(stat: &Stat) -> Self {
        Self {
            device: stat.st_dev as u64,
            inode: stat.st_ino as u64,
            size: u64::try_from(stat.st_size).unwrap_or(0),
            modified: (stat.st_mtime as i64, stat.st_mtime_nsec as u64),
            changed: (stat.st_ctime as i64, stat.st_ctime_nsec as u64),
            links: stat.st_nlink as u64,
        }
    }
}

impl Version {
    /// The strong entity tag, with its quotes. The change time is in it since `rsync --times` and `touch` can set a
    /// modification time back.
    pub fn etag(&self) -> String {
        let nanoseconds = |(s, ns): (i64, u64)| i128::from(s) * 1_000_000_000 + i128::from(ns);
        let (modified, changed) = (nanoseconds(self.modified), nanoseconds(self.changed));
        format!("\"{:x}-{:x}-{modified:x}-{changed:x}\"", self.size, self.inode)
    }

    /// Whether a file that was at this version, and is at `later` now, has not been written to in between (to the file
    /// system's clock). That another file took its name changes its times too, but also its number of links
    /// (`a_file_that_is_replaced_goes_on_as_it_was` in `tests/curl`).
    pub fn holds(&self, later: &Self) -> bool {
        let same_file = (self.device, self.inode, self.size) == (later.device, later.inode, later.size);
        same_file
            && self.modified == later.modified
            && (self.changed == later.changed || self.links != later.links)
    }

    /// When the content was last written, in whole seconds as HTTP has them.
    pub fn modified(&self) -> SystemTime {
        UNIX_EPOCH + Duration::from_secs(u64::try_from(self.modified.0).unwrap_or(0))
    }
}

/// Whether the client has this version already (304): `If-None-Match`, or without that `If-Modified-Since`.
pub fn is_known(version: &Version, headers: &HeaderMap) -> bool {
    let mut tags = headers.get_all(header::IF_NONE_MATCH).iter().peekable();
    if tags.peek().is_some() {
        let etag = version.etag();
        return tags.filter_map(|v| v.to_str().ok()).any(|list| names(list, &etag));
    }
    date(headers, &header::IF_MODIFIED_SINCE).is_some_and(|since| version.modified() <= since)
}

/// Whether `list` (`*`, or entity tags with commas between them) names `etag`; a weak tag too (weak comparison).
fn names(list: &str, etag: &str) -> bool {
    list.trim() == "*"
        || list.split(',').any(|tag| tag.trim().strip_prefix("W/").unwrap_or(tag.trim()) == etag)
}

/// Whether a `Range` counts: there is no `If-Range`, or it names this very version (strong comparison).
pub fn range_counts(version: &Version, headers: &HeaderMap) -> bool {
    let Some(value) = headers.get(header::IF_RANGE) else { return true };
    if value.as_bytes() == version.etag().as_bytes() {
        return true;
    }
    // A date is a strong validator only where no second write can hide in the same second.
    let settled = version.modified() + Duration::from_secs(2) < SystemTime::now();
    settled && date(headers, &header::IF_RANGE) == Some(version.modified())
}

fn date(headers: &HeaderMap, name: &HeaderName) -> Option<SystemTime> {
    headers.get(name)?.to_str().ok().and_then(|text| httpdate::parse_http_date(text).ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn version() -> Version {
        Version { device: 1, inode: 2, size: 3, modified: (1000, 5), changed: (2000, 6), links: 1 }
    }

    fn headers(name: HeaderName, value: &str) -> HeaderMap {
        HeaderMap::from_iter([(name, value.parse().unwrap())])
    }

    #[test]
    fn every_part_changes_the_tag() {
        let base = version();
        for other in [
            Version { inode: 9, ..base.clone() },
            Version { size: 9, ..base.clone() },
            Version { modified: (1000, 9), ..base.clone() },
            Version { changed: (2000, 9), ..base.clone() },
        ] {
            assert_ne!(base.etag(), other.etag());
        }
    }

    #[test]
    fn only_a_change_of_links_explains_a_change_of_times() {
        let base = version();
        assert!(base.holds(&base));
        assert!(base.holds(&Version { changed: (2000, 9), links: 0, ..base.clone() }));
        for other in [
            Version { changed: (2000, 9), ..base.clone() },
            Version { modified: (1000, 9), links: 0, ..base.clone() },
            Version { size: 9, links: 0, ..base.clone() },
        ] {
            assert!(!base.holds(&other), "{other:?}");
        }
    }

    #[test]
    fn if_none_match() {
        let etag = version().etag();
        for known in [etag.clone(), "*".into(), format!("W/{etag}"), format!("\"x\", {etag}")] {
            assert!(is_known(&version(), &headers(header::IF_NONE_MATCH, &known)), "{known}");
        }
        assert!(!is_known(&version(), &headers(header::IF_NONE_MATCH, "\"x\"")));
        // It wins over If-Modified-Since.
        let mut both = headers(header::IF_NONE_MATCH, "\"x\"");
        both.extend(headers(header::IF_MODIFIED_SINCE, &httpdate::fmt_http_date(SystemTime::now())));
        assert!(!is_known(&version(), &both));
    }

    #[test]
    fn dates() {
        let at = |seconds| httpdate::fmt_http_date(UNIX_EPOCH + Duration::from_secs(seconds));
        assert!(is_known(&version(), &headers(header::IF_MODIFIED_SINCE, &at(1000))));
        assert!(!is_known(&version(), &headers(header::IF_MODIFIED_SINCE, &at(999))));
        assert!(!is_known(&version(), &headers(header::IF_MODIFIED_SINCE, "yesterday")));
        assert!(range_counts(&version(), &headers(header::IF_RANGE, &at(1000))));
        assert!(!range_counts(&version(), &headers(header::IF_RANGE, &at(1001))));
    }

    #[test]
    fn if_range_is_strong() {
        assert!(range_counts(&version(), &HeaderMap::new()));
        assert!(range_counts(&version(), &headers(header::IF_RANGE, &version().etag())));
        assert!(!range_counts(&version(), &headers(header::IF_RANGE, &format!("W/{}", version().etag()))));
        assert!(!range_counts(&version(), &headers(header::IF_RANGE, "\"x\"")));
    }
}
