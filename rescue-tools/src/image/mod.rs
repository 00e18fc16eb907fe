//! `rescue write`: from a source to a disk.
//!
//! [`write`](mod@write) owns the order, on one screen: [`source`] (a URL, by [`download`]; a file; standard input) →
//! [`verify`] → [`decompress`] → [`disk`], with [`ahead`] between them so that each has a core of its own. What stands
//! around it: [`proof`] (what the bytes are held against), [`format`](mod@format) (what they are), [`table`] (how large they will be),
//! [`medium`] (what they are written to), [`readback`], [`grow`].

pub mod ahead;
pub mod buffer;
pub mod decompress;
pub mod disk;
pub mod download;
pub mod format;
pub mod grow;
pub mod http;
pub mod medium;
pub mod partitions;
pub mod progress;
pub mod proof;
pub mod readback;
pub mod source;
pub mod table;
pub mod verify;
pub mod write;
