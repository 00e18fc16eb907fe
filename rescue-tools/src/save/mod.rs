//! `rescue save`: an image of a disk that may be failing.
//!
//! Into a file by GNU ddrescue ([`file`](mod@file), with its [`map`] and a look at the [`room`] there is), or as a stream
//! ([`stream`]) of what can be read, with zeroes for what cannot.

pub mod file;
pub mod map;
pub mod ranges;
pub mod room;
pub mod stream;
