//! The root file system that the tests pack: every kind of file that an OS may have.

use crate::peer;
use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::os::unix::net::UnixListener;
use std::path::Path;

/// Everything that any writer carries: kinds, modes, owners, times, names, holes.
pub(crate) fn plain(root: &Path) {
    for folder in
        ["bin", "dev", "etc", "many", "proc", "run", "sbin", "sp ace", "sys", "tmp", "usr/lib/modules", "var"]
    {
        fs::create_dir_all(root.join(folder)).unwrap();
    }
    fs::create_dir(root.join("usr/lib/modules/6.12.1-arm64")).unwrap();
    fs::write(root.join("etc/os-release"), "NAME=Sample\nVERSION_ID=\"13\"\n").unwrap();
    init(root, 183);
    fs::write(root.join("var/random"), noise(700_001)).unwrap();
    fs::write(root.join("var/blocks"), noise(2 * 131_072)).unwrap();
    // The same first block, then other bytes: no two files are one because they begin alike.
    let mut alike = noise(2 * 131_072);
    alike[200_000] ^= 1;
    fs::write(root.join("var/alike"), alike).unwrap();
    fs::write(root.join("var/empty"), "").unwrap();
    for number in 0..600 {
        fs::write(
            root.join(format!("many/a-name-that-fills-blocks-of-folders-{number}")),
            number.to_string(),
        )
        .unwrap();
    }
    symlink("../x/y/z", root.join("var/dangling")).unwrap();
    symlink(format!("../{}", "l".repeat(200)), root.join("var/long-link")).unwrap();
    let deep = root.join("d".repeat(120)).join("e".repeat(150));
    fs::create_dir_all(&deep).unwrap();
    fs::write(deep.join("f".repeat(200)), "deep").unwrap();
    drop(UnixListener::bind(root.join("var/socket")).unwrap());
    for name in ["na me", "n\nl", "q\"\\t", "ümlaut"] {
        fs::write(root.join("sp ace").join(name), name).unwrap();
    }
    let script = r#"set -e
        mknod var/null c 1 3; mknod var/large-minor c 5 300; mknod var/disk b 8 1; mkfifo var/fifo
        truncate -s 5M var/sparse; echo middle | dd of=var/sparse bs=1 seek=3000000 conv=notrunc status=none
        cp /bin/true bin/su; chown 0:42 bin/su; chmod 6755 bin/su; chmod 1777 tmp; chmod 700 many
        chown 100000:100001 var/random; chown -h 5:6 var/dangling
        touch dev/console tmp/.hidden run/pid
        touch -d 2001-02-03T04:05:06Z var/random; touch -h -d 1999-01-01T00:00:00Z var/dangling; touch -d @0 var/empty
        touch -d 2020-01-01T00:00:00Z . var many"#;
    peer(root, "sh", &["-c", script]);
}

/// The same with what only mksquashfs carries: hard links, attributes, capabilities.
pub(crate) fn whole(root: &Path) {
    plain(root);
    let script = r#"set -e
        echo one > var/a; ln var/a var/b; ln var/a many/another
        cp /bin/true bin/ping; setcap cap_net_raw+ep bin/ping
        # In bytes this one holds a line feed.
        cp /bin/true bin/feed; setcap cap_dac_override,cap_fowner+ep bin/feed
        setfattr -n user.note -v "$(head -c 300 /dev/zero | tr '\0' x)" var/random
        setfattr -n user.folder -v yes var; setfattr -n trusted.secret -v q var/a
        touch -d 2020-01-01T00:00:00Z . var many"#;
    peer(root, "sh", &["-c", script]);
}

/// An init for the machine with this ELF number.
pub(crate) fn init(root: &Path, machine: u16) {
    let mut bytes = b"\x7fELF\x02\x01\x01".to_vec();
    bytes.resize(18, 0);
    bytes.extend(machine.to_le_bytes());
    bytes.extend(noise(5000));
    let path = root.join("sbin/init");
    fs::create_dir_all(root.join("sbin")).unwrap();
    fs::write(&path, bytes).unwrap();
    fs::set_permissions(path, fs::Permissions::from_mode(0o755)).unwrap();
}

/// Bytes that do not pack, and are the same each time.
pub(crate) fn noise(length: usize) -> Vec<u8> {
    let mut state = 1_u64;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 32) as u8
    };
    (0..length).map(|_| next()).collect()
}
