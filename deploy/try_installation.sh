#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
#
# Do what the image's build does, without containers: deploy/try_installation.sh [FOLDER]
#
# The files that .dockerignore lets through and the commands of the Containerfile's first stage, in a
# new environment with an empty HOME; then the demo from the installed copy alone. PYTHON chooses the
# interpreter. pip's settings of this account count, as the image's index may not be reached.
set -euo pipefail

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
folder=${1:-$(mktemp -d)}
mkdir -p "$folder"
folder=$(cd "$folder" && pwd)
[ -z "$(ls -A "$folder")" ] || { echo "$folder holds something; name a new folder." >&2; exit 2; }
python=$("${PYTHON:-python3.11}" -c 'import sys; print(sys.executable)')
mkdir "$folder"/{bin,home,source,work}
ln -s "$python" "$folder/bin/python"

mapfile -t carried < <(sed -n 's/^!//p' "$root/deploy/Containerfile.dockerignore")
(cd "$root" && git ls-files -z -- "${carried[@]}" | tar --create --null --files-from=- --file=-) |
  tar --extract --directory="$folder/source" --file=-

commands() { # the RUN lines of the first stage, in this folder's places
  sed -n '/ AS build$/,/^FROM [^ ]*$/p' "$root/deploy/Containerfile" |
    sed -e ':again' -e '/\\$/{N;s/\\\n//;b again' -e '}' |
    sed -n 's/^RUN //p' |
    sed "s#/opt/medreasoner#$folder/medreasoner#g; s#/root/.cache#$folder/home/.cache#g"
}

export PIP_CONFIG_FILE=${PIP_CONFIG_FILE:-${XDG_CONFIG_HOME:-$HOME/.config}/pip/pip.conf}
[ -f "$PIP_CONFIG_FILE" ] || unset PIP_CONFIG_FILE
export HOME=$folder/home GPU=no
unset PYTHONPATH VIRTUAL_ENV
while IFS= read -r line; do
  echo "+ $line"
  (cd "$folder/source" && PATH=$folder/bin:$PATH bash -euc "$line" </dev/null)
done < <(commands)

rm -rf "$folder/source"
cd "$folder/work"
HF_HUB_OFFLINE=1 "$folder/medreasoner/bin/medreasoner" demo
ls demo_output/overlay_{1,2,3}.png
