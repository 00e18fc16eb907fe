//! Which of the two writers makes the squashfs, and what each would lose.

use super::source::Source;
use super::{backhand_writer, mksquashfs};
use anyhow::{Result, bail};
use tempfile::NamedTempFile;

/// Who writes the squashfs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Writer {
    /// backhand where it carries everything, otherwise mksquashfs.
    Auto,
    /// The built-in writer: no extended attributes (file capabilities), no hard links, one core.
    Backhand,
    /// The program of Debian's squashfs-tools: everything, all cores.
    Mksquashfs,
}

/// How the squashfs is to be.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// The size of a block before compression in bytes: a power of two from 4 KiB to 1 MiB.
    pub block_size: u32,
    /// zstd's level, 1 to 22.
    pub level: u32,
    /// The image's own time in seconds since 1970.
    pub time: u32,
    /// How many cores mksquashfs may use.
    pub threads: usize,
}

/// What was done.
pub struct Written {
    /// Who did it.
    pub by: &'static str,
    /// What was lost, a phrase each.
    pub lost: Vec<String>,
}

/// Writes the squashfs.
///
/// # Errors
/// If reading or writing fails, or if nothing here can carry what the source has and losing it was not asked for.
pub fn write(source: &Source, output: &NamedTempFile, writer: Writer, options: &Options) -> Result<Written> {
    let Source { tree, contents, folder, .. } = source;
    let lost = backhand_writer::losses(tree);
    let use_backhand = match writer {
        Writer::Backhand => true,
        Writer::Mksquashfs => false,
        Writer::Auto if lost.is_empty() => true,
        Writer::Auto if mksquashfs::is_present() => false,
        Writer::Auto => bail!(
            "the source has {}, which the built-in writer cannot carry; install squashfs-tools (mksquashfs), or lose \
             them with --writer backhand",
            lost.join(" and ")
        ),
    };
    if use_backhand {
        backhand_writer::write(tree, contents, output.as_file(), options)?;
        return Ok(Written { by: "backhand", lost });
    }
    mksquashfs::write(tree, contents, folder.as_deref(), output.path(), options)?;
    Ok(Written { by: "mksquashfs", lost: mksquashfs::losses(tree, folder.is_some()) })
}
