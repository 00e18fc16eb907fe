#!/usr/bin/env bash
# Makes the root of a small Debian 13 for arm64, as a tar: systemd, networkd, an SSH server that one key may enter.
#
#   virtual-pi/demo-debian.sh AUTHORIZED_KEY.pub OUT.tar [MMDEBSTRAP-OPTION...]
#
# It comes from the mirror that this machine's apt uses. Takes root, or user namespaces for mmdebstrap's unshare mode.
# shellcheck disable=SC2016 # what stands in single quotes is for mmdebstrap and apt to expand
set -euo pipefail

readonly SUITE=trixie
readonly PACKAGES=systemd-sysv,udev,dbus,systemd-resolved,openssh-server,iproute2,iputils-ping,procps,kmod,less

main() {
  local key=$1 out=$2 mirror security work
  shift 2
  mirror=$(mirror_of debian http://deb.debian.org/debian)
  security=$(mirror_of debian-security http://deb.debian.org/debian-security)
  work=$(mktemp -d)
  # shellcheck disable=SC2064 # the names are known now
  trap "rm -rf '$work' '$out.part'" EXIT
  apt_settings >"$work/apt.conf"
  write_root_files "$key" "$work/files"
  # The empty host keys keep the package from making some, slowly and for everyone: each machine makes its own. With
  # .updated (systemd-update-done.service(8)) no first boot makes caches anew that the packages made here.
  mmdebstrap --architectures=arm64 --variant=minbase --include="$PACKAGES" \
    --aptopt="$work/apt.conf" --aptopt='Acquire::Languages "none"' \
    --dpkgopt='path-exclude=/usr/share/man/*' --dpkgopt='path-exclude=/usr/share/locale/*' \
    --dpkgopt='path-exclude=/usr/share/doc/*' --dpkgopt='path-include=/usr/share/doc/*/copyright' \
    --essential-hook='mkdir -p "$1/etc/ssh"; for t in rsa ecdsa ed25519; do : >"$1/etc/ssh/ssh_host_${t}_key"; done' \
    --customize-hook="sync-in '$work/files' /" \
    --customize-hook='chroot "$1" systemctl enable systemd-networkd ssh' \
    --customize-hook='rm -f "$1"/etc/ssh/ssh_host_*; : >"$1/etc/machine-id"; : >"$1/etc/fstab"' \
    --customize-hook='touch "$1/etc/.updated" "$1/var/.updated"' \
    "$@" --format=tar "$SUITE" "$out.part" \
    "deb $mirror $SUITE main" "deb $mirror $SUITE-updates main" "deb $security $SUITE-security main"
  mv "$out.part" "$out"
}

# mirror_of LAST DEFAULT: the archive whose address ends in LAST that this machine's apt uses: it has every release.
mirror_of() {
  local uri
  uri=$(apt-get indextargets --format '$(REPO_URI)' 'Created-By: Packages' 'Component: main' 2>/dev/null |
    grep -E "^https?://.*/$1/?\$" | head -n 1) || true
  echo "${uri:-$2}"
}

# Proxy, certificates and checks as this machine's apt has them.
apt_settings() {
  apt-config dump | grep -E '^(Acquire::(http|https|Check-|Retries)|APT::Authentication)' || true
}

# What makes it a machine of its own: a name, an address by DHCP, a way in, host keys made at its first start.
write_root_files() {
  local key=$1 root=$2
  mkdir -p "$root"/etc/systemd/network "$root"/etc/systemd/system/ssh.service.d "$root"/root/.ssh
  echo debian-in-ram >"$root/etc/hostname"
  printf '127.0.0.1 localhost debian-in-ram\n::1 localhost\n' >"$root/etc/hosts"
  cat >"$root/etc/systemd/network/20-wired.network" <<'END'
[Match]
Name=en* eth*

[Network]
DHCP=yes

[DHCPv4]
# The bootloader asked with its MAC address: the same one keeps the same address.
ClientIdentifier=mac
END
  cat >"$root/etc/systemd/system/ssh.service.d/host-keys.conf" <<'END'
[Service]
ExecStartPre=
ExecStartPre=/bin/sh -c 'test -s /etc/ssh/ssh_host_ed25519_key || ssh-keygen -q -t ed25519 -N "" -f /etc/ssh/ssh_host_ed25519_key'
ExecStartPre=/usr/sbin/sshd -t
END
  install -m 600 "$key" "$root/root/.ssh/authorized_keys"
  chmod 700 "$root/root" "$root/root/.ssh"
  chmod 755 "$root"
}

main "$@"
