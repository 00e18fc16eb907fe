# shellcheck shell=bash
# Which Rust builds what. Source it; every function prints its answer or nothing.

# The oldest Rust that the workspace accepts, from the root Cargo.toml.
rust_wanted() {
  sed -n 's/^rust-version = "\([0-9.]*\)"$/\1/p' "$(dirname "${BASH_SOURCE[0]}")/../Cargo.toml"
}

# rust_fits DIR TARGET: DIR holds a cargo and a rustc that are new enough and have TARGET's standard library.
rust_fits() {
  local dir=$1 target=$2 version std
  [ -x "$dir/cargo" ] && [ -x "$dir/rustc" ] || return 1
  version=$("$dir/rustc" --version 2>/dev/null | cut -d' ' -f2) && [ -n "$version" ] || return 1
  [ "$(printf '%s\n' "$(rust_wanted)" "$version" | sort -V | head -n 1)" = "$(rust_wanted)" ] || return 1
  std=$("$dir/rustc" --print target-libdir --target "$target") || return 1
  compgen -G "$std/libstd-*.rlib" >/dev/null
}

# find_rust TARGET: the folder of the first cargo that can build for TARGET; a rustup toolchain comes before Debian's.
find_rust() {
  local dir
  for dir in "$(dirname "$(command -v cargo || echo /usr/bin/cargo)")" "$HOME/.cargo/bin" /usr/bin; do
    if rust_fits "$dir" "$1"; then
      printf '%s\n' "$dir"
      return 0
    fi
  done
  return 1
}

# host_target: the triple of this machine, as Rust names it.
host_target() {
  printf '%s-unknown-linux-gnu\n' "$(uname -m)"
}
