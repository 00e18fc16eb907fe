#!/bin/sh
# Reads or writes this Pi's EEPROM by flashrom, for the role pi_eeprom. What is there afterwards is on standard output, as SHA-256.
#
#   eeprom.sh read FILE FAST SLOW [WORD...]          FAST and SLOW are programmers (flashrom -p), WORDs are for flashrom
#   eeprom.sh write FILE PROGRAMMER [WORD...]        exits with 0 where FILE was read back
#
# With 75 (EX_TEMPFAIL) it ends where another one is at work: one whose connection broke goes on. /run is root's alone, unlike
# /run/lock. flashrom inherits the lock: it holds until flashrom has ended.
set -eu

exec 9>/run/pi-eeprom.lock
if ! flock -n 9; then
  echo "/run/pi-eeprom.lock is held" >&2
  exit 75
fi

verb=$1 file=$2 programmer=$3
shift 3

hash() { sha256sum "$1" | cut -d ' ' -f 1; }

case $verb in
  read)
    slow=$1
    shift
    flashrom -p "$programmer" "$@" -r "$file" >&2
    flashrom -p "$slow" "$@" -r "$file.again" >&2
    cmp "$file" "$file.again" >&2
    rm "$file.again"
    hash "$file"
    ;;
  write)
    # It compares while it writes, and fails; what counts is what is read afterwards.
    flashrom -p "$programmer" "$@" -w "$file" >&2 || true
    flashrom -p "$programmer" "$@" -r "$file.back" >&2
    hash "$file.back"
    cmp "$file" "$file.back" >&2
    ;;
esac
