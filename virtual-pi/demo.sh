#!/usr/bin/env bash
# Powers on a Pi that is not there and leaves you a shell on it. `make demo` installs what is needed, then calls it.
#
#   virtual-pi/demo.sh [rescue|debian] [--check]
#
# rescue    SSH into the rescue
# debian    a full Debian in RAM: fetched over HTTP, its signature checked
# --check   log in once, look around, end; the exit code says whether all of it worked
#
# Everything it makes is under target/demo/. Ctrl-C, or the end of this script, ends everything that it started.
set -euo pipefail
cd "$(dirname "$0")/.."
. .ci/rust.sh

readonly DEMO=$PWD/target/demo
readonly SERIAL=10000000d3300001
# The host as a guest of QEMU's user network sees it.
readonly HOST_SEEN_FROM_PI=10.0.2.2
OS=rescue CHECK=no
SERVER_PORT=0 SSH_PORT=0
CHILDREN=()

main() {
  arguments "$@"
  trap stop EXIT
  trap 'exit 130' INT
  trap 'exit 143' TERM HUP
  mkdir -p "$DEMO"
  SERVER_PORT=$(free_port 8099) SSH_PORT=$(free_port 2222)
  step "programs" build_programs
  step "keys" make_keys
  [ "$OS" != debian ] || step "Debian for the Pi" make_debian
  step "boot.img" build_image
  serve
  power_on
  wait_for_login
  if [ "$CHECK" = yes ]; then look_around; else stay; fi
}

arguments() {
  local word
  for word in "$@"; do
    case $word in
      rescue | debian) OS=$word ;;
      --check) CHECK=yes ;;
      *) fail "what is '$word'? It is: demo.sh [rescue|debian] [--check]" ;;
    esac
  done
}

fail() {
  echo "demo: $*" >&2
  exit 1
}

# step NAME FUNCTION: runs it, and says what is being made and how long that took.
step() {
  local start=$SECONDS
  echo "demo: $1"
  "$2"
  if [ $((SECONDS - start)) -gt 2 ]; then echo "demo: $1: $((SECONDS - start)) s"; fi
}

# free_port FIRST: the first port from there on that nobody on this machine listens on.
free_port() {
  local port
  for port in $(seq "$1" $(($1 + 50))); do
    if ! listens "$port"; then
      echo "$port"
      return
    fi
  done
  fail "no free port from $1 on"
}

listens() {
  (: <>"/dev/tcp/127.0.0.1/$1") 2>/dev/null
}

build_programs() {
  .ci/device quick
  PATH=$(find_rust "$(host_target)"):$PATH cargo build -p boot-files -p http-boot -p virtual-pi
}

# Keys of the demo's own, made once: to log in, for boot.sig, for OS images.
make_keys() {
  [ -e "$DEMO/ssh_key" ] || ssh-keygen -q -t ed25519 -N '' -C demo -f "$DEMO/ssh_key"
  [ -e "$DEMO/boot.pem" ] || target/debug/boot-files keygen --kind boot "$DEMO/boot"
  [ -e "$DEMO/image.key" ] || target/debug/boot-files keygen --kind image "$DEMO/image"
}

make_debian() {
  local site=$DEMO/site
  mkdir -p "$site"
  [ "$site/debian.json.minisig" -nt virtual-pi/demo-debian.sh ] && [ "$site/debian.json.minisig" -nt "$DEMO/ssh_key" ] && return
  virtual-pi/demo-debian.sh "$DEMO/ssh_key.pub" "$DEMO/debian.tar"
  target/debug/boot-files os "$DEMO/debian.tar" -o "$site/debian.squashfs" --key "$DEMO/image.key"
  rm "$DEMO/debian.tar"
}

# The image has its command line in it, as on a real Pi: what to boot is decided here.
build_image() {
  local toml=$DEMO/$OS.toml goal=
  [ "$OS" != debian ] || goal=" root=live:http://$HOST_SEEN_FROM_PI:$SERVER_PORT/debian.squashfs"
  cat >"$toml" <<END
format = 1
name = "demo $OS"

[boot]
cmdline = "console=ttyAMA0 panic=10$goal"
compression_level = 3

[device]
server = "http://$HOST_SEEN_FROM_PI:$SERVER_PORT/"

[access]
authorized_keys = ["ssh_key.pub"]
image_keys = ["image.pub"]

[sign]
key = "boot.pem"
END
  target/debug/boot-files build "$toml" --output "$DEMO/site/$OS" \
    --device-binaries target/aarch64-unknown-linux-gnu/quick
}

serve() {
  target/debug/http-boot serve --root "$DEMO/site" --listen "127.0.0.1:$SERVER_PORT" >"$DEMO/server.log" 2>&1 &
  CHILDREN+=($!)
  until listens "$SERVER_PORT"; do
    kill -0 "${CHILDREN[0]}" 2>/dev/null || fail "the boot server ended: $(tail -n 1 "$DEMO/server.log")"
    sleep 0.05
  done
}

power_on() {
  echo "demo: power on"
  : >"$DEMO/console.log"
  target/debug/virtual-pi run --http-host 127.0.0.1 --http-port "$SERVER_PORT" --http-path "$OS" \
    --public-key "$DEMO/boot.pub.pem" --serial "$SERIAL" --memory 1024 \
    --ssh-port "$SSH_PORT" --console "$DEMO/console.log" --time-limit 86400 &
  PI=$!
  CHILDREN+=("$PI")
  show_console &
  TAIL=$!
  CHILDREN+=("$TAIL")
}

# Shows the console as it grows, less what the kernel says (that is in the file), systemd's moving stars, and what would
# make a terminal answer. Colours stay.
show_console() {
  exec > >(exec sed -u -E '/^\[ *[0-9.]+\] /{/lifeboat/!d}
    s/\r//g; s/\x1b(\[[!?0-9;]*[A-Za-ln-z]|M)//g; / Job .* running \(/d')
  exec tail -n +1 -f --pid="$PI" "$DEMO/console.log"
}

# A new boot is a new machine with new host keys, so that what an earlier one had is forgotten.
write_ssh_config() {
  : >"$DEMO/known_hosts"
  cat >"$DEMO/ssh_config" <<END
Host pi
  HostName 127.0.0.1
  Port $SSH_PORT
  User root
  IdentityFile "$DEMO/ssh_key"
  IdentitiesOnly yes
  UserKnownHostsFile "$DEMO/known_hosts"
  StrictHostKeyChecking accept-new
  LogLevel ERROR
END
}

on_pi() {
  ssh -F "$DEMO/ssh_config" -o BatchMode=yes pi "$@"
}

# The rescue's SSH server answers on the way to Debian too: who answers is asked for, and no key remembered until then.
wait_for_login() {
  local proof='rescue --version'
  [ "$OS" != debian ] || proof='grep -qx debian-in-ram /etc/hostname'
  write_ssh_config
  until ssh -F "$DEMO/ssh_config" -o BatchMode=yes -o ConnectTimeout=3 \
    -o UserKnownHostsFile=/dev/null -o StrictHostKeyChecking=no pi "$proof" >/dev/null 2>&1; do
    kill -0 "$PI" 2>/dev/null || fail "the Pi ended before anyone could log in (above, and $DEMO/server.log)"
    [ "$SECONDS" -lt 3600 ] || fail "nobody could log in for an hour ($DEMO/console.log, $DEMO/server.log)"
    sleep 0.3
  done
  kill "$TAIL"
}

look_around() {
  case $OS in
    rescue) on_pi 'rescue status' ;;
    debian) on_pi 'systemctl is-system-running --wait; findmnt /; systemd-analyze; systemctl is-system-running -q' ;;
  esac
  echo "demo: all well"
}

stay() {
  cat <<END

  The Pi is up. Log in from another terminal:

      ssh -F ${DEMO#"$PWD"/}/ssh_config pi

  Its console goes on in ${DEMO#"$PWD"/}/console.log, what it reports is at http://127.0.0.1:$SERVER_PORT/v1/devices
  Ctrl-C here takes its power away.

END
  trap 'exit 0' INT
  wait "$PI" || true
  echo "demo: the Pi is off"
}

stop() {
  local status=$?
  trap - EXIT INT TERM HUP
  if [ "${#CHILDREN[@]}" -gt 0 ]; then
    kill "${CHILDREN[@]}" 2>/dev/null || true
    wait "${CHILDREN[@]}" 2>/dev/null || true
  fi
  exit "$status"
}

main "$@"
