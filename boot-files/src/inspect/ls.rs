//! `boot-files ls`.

use super::{Item, Kind};
use anyhow::{Context, Result};
use std::io::{self, BufWriter, Write};
use std::path::PathBuf;

/// List what is in boot.img, an initramfs or a squashfs.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  boot-files ls out/boot.img
  boot-files cat out/boot.img initramfs8 | boot-files ls -")]
pub struct Args {
    /// The image; - is standard input.
    image: PathBuf,
    /// Print a JSON list.
    #[arg(long)]
    json: bool,
}

/// Runs it.
///
/// # Errors
/// If the image cannot be read.
pub fn run(args: Args) -> Result<()> {
    let archive = super::open(&args.image)?;
    let mut out = BufWriter::new(io::stdout().lock());
    let printed = if args.json {
        serde_json::to_writer_pretty(&mut out, archive.items())
            .map_err(io::Error::from)
            .and_then(|()| writeln!(out))
    } else {
        archive.items().iter().try_for_each(|item| writeln!(out, "{}", line(item)))
    };
    unless_closed(printed.and_then(|()| out.flush())).context("printing the list")
}

/// A reader that has seen enough (`| head`) is no error.
fn unless_closed(result: io::Result<()>) -> io::Result<()> {
    match result {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        other => other,
    }
}

/// One line as `ls -l` would print it.
fn line(item: &Item) -> String {
    let (letter, end) = match &item.kind {
        Kind::Directory => ('d', "/".to_owned()),
        Kind::File => ('-', String::new()),
        Kind::Symlink { target } => ('l', format!(" -> {}", escaped(target))),
        Kind::Device { block, .. } => (if *block { 'b' } else { 'c' }, String::new()),
        Kind::Special => ('?', String::new()),
    };
    let size = match &item.kind {
        Kind::Device { major, minor, .. } => format!("{major}, {minor}"),
        _ => item.size.to_string(),
    };
    format!(
        "{letter}{} {:>5} {:>5} {size:>10} {}{end}",
        permissions(item.mode),
        item.uid,
        item.gid,
        escaped(&item.path)
    )
}

/// Names from an image may hold anything: keep them from driving the terminal.
fn escaped(text: &str) -> String {
    text.chars()
        .map(|c| if c.is_control() { c.escape_default().to_string() } else { c.to_string() })
        .collect()
}

fn permissions(mode: u32) -> String {
    let bit = |mask: u32, letter: char| if mode & mask == 0 { '-' } else { letter };
    let execute = |mask: u32, special: u32, letter: char| match (mode & mask != 0, mode & special != 0) {
        (true, true) => letter,
        (false, true) => letter.to_ascii_uppercase(),
        (true, false) => 'x',
        (false, false) => '-',
    };
    [
        bit(0o400, 'r'),
        bit(0o200, 'w'),
        execute(0o100, 0o4000, 's'),
        bit(0o040, 'r'),
        bit(0o020, 'w'),
        execute(0o010, 0o2000, 's'),
        bit(0o004, 'r'),
        bit(0o002, 'w'),
        execute(0o001, 0o1000, 't'),
    ]
    .iter()
    .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_look_like_those_of_ls() {
        let item = |kind, mode, path: &str| Item { path: path.into(), kind, mode, uid: 0, gid: 0, size: 7 };
        assert_eq!(line(&item(Kind::File, 0o4755, "a\x1b")), "-rwsr-xr-x     0     0          7 a\\u{1b}");
        assert_eq!(line(&item(Kind::Directory, 0o1777, "tmp")), "drwxrwxrwt     0     0          7 tmp/");
        let console = Kind::Device { block: false, major: 5, minor: 1 };
        assert_eq!(
            line(&item(console, 0o600, "dev/console")),
            "crw-------     0     0       5, 1 dev/console"
        );
    }
}
