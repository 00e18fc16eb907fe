# Functions for the guest of disks.rs: file systems with files in them, what damages them, and whether the files are
# as before. X is a disk's letter.

# make X COMMAND...: a file system, made by COMMAND, with files whose hashes are noted.
make() {
  x=$1
  shift
  "$@" "/dev/vd$x" >/tmp/mkfs.log 2>&1 || { cat /tmp/mkfs.log; return 1; }
  mkdir -p /tmp/x
  mount "/dev/vd$x" /tmp/x || return 1
  fill /tmp/x
  hashes /tmp/x >"/tmp/hashes.$x"
  umount /tmp/x || return 1
  forget
}

# fill DIR: large files, many small ones, directories, a Linux root's os-release.
fill() {
  mkdir -p "$1/etc" "$1/usr/lib" "$1/home/a b"
  echo "PRETTY_NAME=\"Test Linux on $(basename "$1")\"" >"$1/usr/lib/os-release"
  cp "$1/usr/lib/os-release" "$1/etc/os-release"
  cp -L /usr/sbin/e2fsck /usr/lib/aarch64-linux-gnu/libc.so.6 "$1/home"
  i=0
  while [ $i -lt 100 ]; do
    echo "file $i" >"$1/home/a b/$i"
    i=$((i + 1))
  done
}

# hashes DIR: lost+found is not of the files.
hashes() {
  (cd "$1" && find . -type f -print0 | sort -z | xargs -0 sha256sum)
}

# same X: the files that were noted are all there, as before, and nothing else is; read by `rescue mount`.
same() {
  rescue mount "/dev/vd$1" /tmp/same || return 1
  hashes /tmp/same >"/tmp/hashes.$1.now"
  rescue umount /tmp/same || return 1
  diff "/tmp/hashes.$1" "/tmp/hashes.$1.now"
}

# The next read is of the disk.
forget() {
  sync
  echo 3 >/proc/sys/vm/drop_caches
}

# zero X BLOCK_SIZE BLOCK COUNT
zero() {
  dd if=/dev/zero of="/dev/vd$1" bs="$2" seek="$3" count="$4" conv=notrunc 2>/dev/null
  forget
}

# number X OFFSET: a little-endian number of four bytes.
number() {
  dd if="/dev/vd$1" bs=1 skip="$2" count=4 2>/dev/null | od -A n -t u4 | tr -d ' '
}

# The maps of used blocks and inodes of the first group.
lose_ext_bitmaps() {
  for map in 'Block bitmap' 'Inode bitmap'; do
    block=$(dumpe2fs "/dev/vd$1" 2>/dev/null | grep -o "$map at [0-9]*" | head -n 1 | grep -o '[0-9]*$')
    zero "$1" 1024 "$block" 1
  done
}

# Fields of inodes: counts of names, and a size.
damage_ext_inodes() {
  debugfs -w -R 'set_inode_field /home/e2fsck links_count 9' "/dev/vd$1" 2>/dev/null
  debugfs -w -R 'set_inode_field /home links_count 1' "/dev/vd$1" 2>/dev/null
  forget
}

# The block behind the superblock: the groups' descriptors.
lose_ext_groups() { zero "$1" 1024 2 1; }

# The first file allocation table, from its first entry on.
lose_fat() { zero "$1" 512 "$(dd if="/dev/vd$1" bs=1 skip=14 count=2 2>/dev/null | od -A n -t u2 | tr -d ' ')" 16; }

# The map of used clusters is the first cluster of the heap.
lose_exfat_bitmap() { zero "$1" 512 "$(number "$1" 88)" 1; }

# One of the two copies of the trees' blocks.
lose_btrfs_copies() {
  chunk=$(btrfs inspect-internal dump-tree -t chunk "/dev/vd$1" | grep -A 4 'CHUNK_ITEM' | grep -B 1 'METADATA|DUP' |
    sed -n 's/.*CHUNK_ITEM \([0-9]*\)).*/\1/p')
  copy=$(btrfs inspect-internal dump-tree -t chunk "/dev/vd$1" | grep -A 4 'METADATA|DUP' |
    sed -n 's/.*stripe 0 devid 1 offset //p')
  [ -n "$chunk" ] && [ -n "$copy" ] || return 1
  for block in $(btrfs inspect-internal dump-tree -t fs "/dev/vd$1" | awk '/^(leaf|node) / { print $2 }'); do
    zero "$1" 4096 $(((copy + block - chunk) / 4096)) 4
  done
}

# The second group's maps of free space and inodes.
lose_xfs_group() {
  blocks=$(xfs_db -r -c 'sb 0' -c 'p agblocks' "/dev/vd$1" | grep -o '[0-9]*')
  zero "$1" 512 $((blocks * 8 + 1)) 2
}

# The first checkpoint.
lose_f2fs_checkpoint() { zero "$1" 4096 512 1; }

# pulled X Y COMMAND...: Y becomes what X was when the power went, with a file just written; X is made by COMMAND.
pulled() {
  x=$1 y=$2
  shift 2
  make "$x" "$@" || return 1
  mount "/dev/vd$x" /tmp/x || return 1
  echo new >/tmp/x/new
  sync /tmp/x/new
  copy_disk "$x" "$y"
  umount /tmp/x
  forget
}

# A copy of what is on the disk, not of what the file system has in memory.
copy_disk() {
  echo 3 >/proc/sys/vm/drop_caches
  dd if="/dev/vd$1" of="/dev/vd$2" bs=1M 2>/dev/null
}
