#!/bin/sh
# Writes pieeprom.bin, which lies beside this script, into the EEPROM of the Pi that runs it.
#
#   sudo ./flash.sh             saves what is there to backup-SERIAL.bin, writes, compares
#   sudo ./flash.sh FILE        the same with FILE: a backup, to go back
#
# A power cut while it writes leaves a Pi that does not start: rpiboot, or an SD card with recovery.bin, brings it back.
# Nothing is rebooted.
set -eu

DEVICE=@DEVICE@
SHA256=@SHA256@
SOC=@SOC@
# flashrom's words: 16 MHz at first; slower where that fails.
FAST=16000
SLOW=8000
TRIES=5

say() { printf '%s\n' "flash.sh: $*"; }
fail() { say "$*" >&2; exit 1; }

here=$(cd "$(dirname "$0")" && pwd)
image=${1:-$here/pieeprom.bin}
tree=/proc/device-tree

[ "$(id -u)" = 0 ] || fail "this takes root: run it with sudo"
command -v flashrom >/dev/null || fail "there is no flashrom: apt install flashrom"
tr '\0' '\n' <$tree/compatible | grep -q "$SOC" || fail "this is no Pi with $SOC: nothing was done"
[ -e "$DEVICE" ] || fail "there is no $DEVICE. config.txt needs: @CONFIG@. Add that, reboot, run this again"
[ -f "$image" ] || fail "there is no $image"
if [ $# = 0 ]; then
  printf '%s  %s\n' "$SHA256" "$image" | sha256sum --check --quiet || fail "$image is damaged: copy it anew"
fi

programmer() { printf 'linux_spi:dev=%s,spispeed=%s' "$DEVICE" "$1"; }

serial=$(tr -d '\0' <$tree/serial-number)
backup=$here/backup-$serial.bin
if [ ! -e "$backup" ]; then
  say "saving what is there"
  flashrom -p "$(programmer $FAST)" -r "$backup.1"
  flashrom -p "$(programmer $SLOW)" -r "$backup.2"
  cmp "$backup.1" "$backup.2" || fail "two readings differ: the EEPROM cannot be read reliably, nothing was written"
  [ "$(wc -c <"$backup.1")" = "$(wc -c <"$image")" ] || fail "the EEPROM has another size than $image: nothing was written"
  rm "$backup.2"
  mv "$backup.1" "$backup"
  sync
fi
say "what was there is in $backup: copy it to another machine"

speed=$FAST
try=1
while [ "$try" -le "$TRIES" ]; do
  say "writing, try $try of $TRIES. Keep the power on"
  if flashrom -p "$(programmer $speed)" -w "$image" && flashrom -p "$(programmer $speed)" -v "$image"; then
    say "written and compared. It is used from the next start on"
    exit 0
  fi
  speed=$SLOW
  try=$((try + 1))
done
fail "it could not be written in $TRIES tries. DO NOT REBOOT OR POWER OFF: try $0 again, or $0 $backup"
