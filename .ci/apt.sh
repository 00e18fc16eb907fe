# shellcheck shell=bash
# apt-get for .ci/setup: as root or through sudo, patient with locks, with arm64 and with a new enough QEMU. Source it.

readonly BACKPORTS_FILE=/etc/apt/sources.list.d/pi-lifeboat-backports.sources
AS_ROOT=()
QEMU_RELEASE= # where to take QEMU from, when not from the usual place

become_root() {
  if [ "$(id -u)" = 0 ]; then
    AS_ROOT=()
  elif sudo -n true 2>/dev/null; then
    AS_ROOT=(sudo -n)
  elif [ -t 0 ] && command -v sudo >/dev/null; then
    echo "setup: sudo may ask for your password"
    AS_ROOT=(sudo)
  else
    fail "installing needs root: run  sudo .ci/setup  (or as root), then this again"
  fi
}

# apt WORDS...: apt-get that asks nothing, removes nothing and waits up to five minutes for someone else's lock.
apt() {
  local try log
  log=$(mktemp)
  for try in {1..60}; do
    if "${AS_ROOT[@]}" env DEBIAN_FRONTEND=noninteractive LC_ALL=C.UTF-8 \
      apt-get -q -y -o DPkg::Lock::Timeout=300 -o Dpkg::Use-Pty=0 "$@" > >(tee "$log") 2> >(tee -a "$log" >&2); then
      rm -f "$log"
      return 0
    fi
    grep -q 'Could not get lock\|Unable to lock' "$log" || break
    [ "$try" != 1 ] || echo "setup: another apt is at work; waiting for it"
    sleep 5
  done
  rm -f "$log"
  return 1
}

# A source of someone else's that fails must not stop us: what we need may be there all the same.
apt_update() {
  apt update -qq || echo "setup: apt-get update failed in part; going on with the lists that are here" >&2
}

apt_install() {
  local name rest=()
  for name in "$@"; do
    if [ "$name" = qemu-system-arm ] && [ -n "$QEMU_RELEASE" ]; then
      # With the release as target for this one alone, its own parts come from there too, and nothing else does.
      apt install --no-install-recommends --no-remove -t "$QEMU_RELEASE" "$name" || could_not "$name"
    else
      rest+=("$name")
    fi
  done
  [ "${#rest[@]}" -eq 0 ] || apt install --no-install-recommends --no-remove "${rest[@]}" || could_not "${rest[*]}"
}

could_not() {
  fail "apt-get could not install: $*
If it would have to remove Debian's cargo or rustup for that: run  rustup target add aarch64-unknown-linux-gnu
with a Rust of at least $(rust_wanted), and this again."
}

# The Pi's Rust library is an arm64 package.
add_arm64() {
  [ "$(dpkg --print-architecture)" != arm64 ] || return 0
  if ! dpkg --print-foreign-architectures | grep -qx arm64; then
    echo "setup: telling dpkg that arm64 packages may be installed"
    "${AS_ROOT[@]}" dpkg --add-architecture arm64
  fi
}

# The Pi's kernel and tools are found in apt's lists of arm64 packages.
list_arm64() {
  compgen -G '/var/lib/apt/lists/*_binary-arm64_Packages*' >/dev/null && return
  become_root
  add_arm64
  apt_update
}

# Debian 12's own QEMU (7.2) has no Pi 4, its backports have one: their address is that of the main archive here.
add_backports() {
  local codename uri
  [[ " $* " == *" qemu-system-arm "* ]] || return 0
  # shellcheck source=/dev/null
  codename=$(. /etc/os-release && echo "$VERSION_CODENAME")
  [ "$codename" = bookworm ] || return 0
  QEMU_RELEASE=bookworm-backports
  [ -z "$(apt-get indextargets --format x 'Codename: bookworm-backports')" ] || return 0
  uri=$(apt-get indextargets --format "\$(REPO_URI)" 'Created-By: Packages' 'Codename: bookworm' 'Component: main' |
    grep -v security | head -n 1 || true)
  [ -n "$uri" ] || fail "no source of Debian 12 (bookworm main) in apt's configuration"
  echo "setup: adding bookworm-backports, for QEMU 9 or newer, as $BACKPORTS_FILE"
  printf 'Types: deb\nURIs: %s\nSuites: bookworm-backports\nComponents: main\nSigned-By: %s\n' \
    "$uri" /usr/share/keyrings/debian-archive-keyring.gpg | "${AS_ROOT[@]}" tee "$BACKPORTS_FILE" >/dev/null
  apt_update
}
