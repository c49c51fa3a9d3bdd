#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
#
# Install what the PACS tests use, on Debian and Ubuntu: scripts/setup_pacs.sh [PACKAGE...]
#
# Orthanc with DICOMweb is the archive, dciodvfy (dicom3tools) and dsrdump (dcmtk) are validators,
# PostgreSQL keeps records that several workers share; further Debian packages may be named. The
# server itself needs none of them. What is there already is not installed again. Ends with status
# 69 where packages cannot be installed at all.
set -euo pipefail

readonly UNAVAILABLE=69 # EX_UNAVAILABLE of sysexits.h

as_root() {
  if [ "$(id -u)" -eq 0 ]; then "$@"; else sudo --non-interactive "$@"; fi
}

unavailable() {
  echo "$(basename "$0"): $1 Missing: ${missing[*]}" >&2
  exit "$UNAVAILABLE"
}

is_installed() {
  [ "$(dpkg-query --show --showformat='${db:Status-Status}' "$1" 2>/dev/null)" = installed ]
}

missing=()
for package in orthanc orthanc-dicomweb dcmtk dicom3tools "$@"; do
  is_installed "$package" || missing+=("$package")
done
own_postgresql=
if ! compgen -G '/usr/lib/postgresql/*/bin/initdb' >/dev/null; then
  missing+=(postgresql)
  own_postgresql=1
fi
[ ${#missing[@]} -eq 0 ] && exit

command -v apt-get >/dev/null || unavailable "This is no Debian or Ubuntu."
as_root true 2>/dev/null || unavailable "Packages need root, or sudo without a password."
as_root apt-get update --quiet
as_root env DEBIAN_FRONTEND=noninteractive \
  apt-get install --quiet --yes --no-install-recommends "${missing[@]}" ||
  unavailable "apt could not install the packages."

# The packages start servers of their own, which tests do not use.
for service in orthanc ${own_postgresql:+postgresql}; do
  if command -v systemctl >/dev/null && systemctl is-active --quiet "$service" 2>/dev/null; then
    as_root systemctl disable --now "$service"
  fi
done
