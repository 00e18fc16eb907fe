#!/bin/sh
# Reads or writes this Pi's EEPROM by flashrom, for the role pi_eeprom. What is there afterwards is on standard output, as SHA-256.
#
#   eeprom.sh read FILE FAST SLOW [WORD...]          FAST and SLOW are programmers (flashrom -p), WORDs are for flashrom
#   eeprom.sh write FILE PROGRAMMER [WORD...]        exits with 0 where FILE was read back
set -eu

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
