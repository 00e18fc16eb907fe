//! `init get`: how other programs of the device ask an HTTP server. The device has one HTTP client, with one TLS and one
//! resolver, and it is in `init`: `rescue` runs that for each request.
//!
//! `init get [--from BYTE] [--if-range VALIDATOR] [--checked] URL` writes an [`Answer`] as one line of JSON to its standard output,
//! then the answer's body. Where it fails, standard error has one line and the exit code is 1: also when the body breaks
//! off. With `--checked` the caller checks what comes by its hash or signature: then a certificate whose dates do not fit this
//! machine's clock is a warning in the kernel's log, else a failure.

use serde::{Deserialize, Serialize};

/// Where the program is in an image.
pub const PROGRAM: &str = "/init";
/// No line is longer.
pub const ANSWER_LIMIT: usize = 16 * 1024;

/// The head of a server's answer, as far as anybody here wants it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Answer {
    /// The HTTP status.
    pub status: u16,
    /// `Content-Length`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub length: Option<u64>,
    /// `Content-Range`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub range: Option<String>,
    /// `ETag`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub etag: Option<String>,
    /// `Last-Modified`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub modified: Option<String>,
}
