//! A site's overlay for the tiny OS: an init that the OS has too, and a file of the OS taken away.

use std::path::{Path, PathBuf};
use std::process::Command;

use super::images::{program, run};

/// Says `SITE-OS`; its shell is the OS'.
const INIT: &str = "#!/bin/busybox sh
b=/bin/busybox
exec >/dev/console 2>&1
echo \"SITE-OS pid $$ root $($b awk '$2 == \"/\" {print $4}' /proc/mounts | $b tail -n 1)\"
echo \"SITE-OS noise $($b test -e /noise && echo there || echo gone)\"
echo \"SITE-OS swaps $($b tail -n +2 /proc/swaps | $b tr '\\n\\t' '  ')\"
echo \"SITE-OS end\"
while :; do $b sleep 1; done
";

/// Makes `site.squashfs` in a folder, with manifest and signature, as docs/os-images.md has it.
pub fn make(folder: &Path, key: &Path) -> PathBuf {
    let sbin = folder.join("site/sbin");
    std::fs::create_dir_all(&sbin).unwrap();
    std::fs::write(sbin.join("init"), INIT).unwrap();
    run(Command::new("chmod").arg("755").arg(sbin.join("init")));
    let tar = folder.join("site.tar");
    run(Command::new("tar").arg("-C").arg(folder.join("site")).arg("-cf").arg(&tar).arg("sbin"));
    // Making the node itself takes root.
    let archive = [whiteout("noise").as_slice(), &std::fs::read(&tar).unwrap()].concat();
    std::fs::write(&tar, archive).unwrap();
    let squashfs = folder.join("site.squashfs");
    let mut os = Command::new(program("boot-files"));
    run(os.arg("os").arg(&tar).args(["--no-init-check", "--output"]).arg(&squashfs).arg("--key").arg(key));
    squashfs
}

/// tar's entry of a character device 0, 0: to overlayfs, "there is no such file" (POSIX ustar).
fn whiteout(name: &str) -> [u8; 512] {
    let mut header = [0; 512];
    let mut put = |at: usize, text: &str| header[at..at + text.len()].copy_from_slice(text.as_bytes());
    put(0, name);
    put(100, "0000644\0");
    put(108, "0000000\0");
    put(116, "0000000\0");
    put(124, "00000000000\0");
    put(136, "00000000001\0");
    put(148, "        ");
    put(156, "3");
    put(257, "ustar\x0000");
    put(329, "0000000\0");
    put(337, "0000000\0");
    let sum: u32 = header.iter().map(|byte| u32::from(*byte)).sum();
    header[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    header
}
