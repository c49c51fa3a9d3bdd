#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# The programs that the PACS tests use, on Debian and Ubuntu: Orthanc with DICOMweb as the archive,
# dciodvfy (dicom3tools) and dsrdump (dcmtk) as validators. The server itself needs none of them.
set -eu

as_root() {
    if [ "$(id -u)" -eq 0 ]; then "$@"; else sudo "$@"; fi
}

as_root apt-get update --quiet
as_root env DEBIAN_FRONTEND=noninteractive apt-get install --quiet --yes --no-install-recommends \
    orthanc orthanc-dicomweb dcmtk dicom3tools

# The package starts an Orthanc of its own, which tests do not use.
if command -v systemctl >/dev/null 2>&1 && systemctl is-active --quiet orthanc; then
    as_root systemctl disable --now orthanc
fi

for program in Orthanc dsrdump dciodvfy; do
    command -v "$program"
done
