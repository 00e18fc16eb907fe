//! `boot-files build` against a signed apt repository of small arm64 packages, made here with Debian's own tools; what comes
//! out is looked at with mtools, fsck.vfat, zstd and cpio.

// A panic is how a test fails; clippy knows that of test functions, and not of what they call.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing)]

mod output;
mod refusals;
mod repository;
mod site;
