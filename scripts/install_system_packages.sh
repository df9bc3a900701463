#!/usr/bin/env bash
# Installs, through apt and only where missing, what pip cannot bring: software rendering for the
# simulated robot (OSMesa), Python's headers for building messages, venv, and a compiler.
set -euo pipefail
python=$1
PATH=$PATH:/usr/sbin:/sbin  # ldconfig is there, and Debian's users do not look there

fail() {
  echo "$1 Install by hand: ${missing[*]}" >&2
  exit 1
}

missing=()
version=$("$python" -c 'import sys; print("%d.%d" % sys.version_info[:2])')
[[ $(ldconfig -p) == *libOSMesa.so* ]] || missing+=(libosmesa6)
"$python" -c 'import ensurepip, venv' 2>/dev/null || missing+=("python$version-venv")
"$python" -c 'import os, sys, sysconfig
sys.exit(not os.path.exists(os.path.join(sysconfig.get_path("include"), "Python.h")))' \
  || missing+=("python$version-dev")
command -v g++ >/dev/null || missing+=(g++)
[ ${#missing[@]} -eq 0 ] && exit 0

command -v apt-get >/dev/null || fail "System packages are missing, and there is no apt-get here."
as_root=()
if [ "$(id -u)" -ne 0 ]; then
  command -v sudo >/dev/null || fail "System packages are missing, and only root may install them."
  as_root=(sudo)
fi
echo "Installing missing system packages through apt: ${missing[*]}"
# One unreachable source fails the update, and the packages may be known all the same.
"${as_root[@]}" apt-get update -qq || true
"${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends \
  "${missing[@]}" || fail "apt-get could not install what is missing."
