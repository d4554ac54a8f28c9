#!/usr/bin/env bash
# SPDX-License-Identifier: BSL-1.0
set -euo pipefail

usage()
{
    cat << 'END'
usage: older.sh HOST

Builds the test's host of an earlier commit, with that commit's headers. HOST is where it goes, .../COMMIT/host_ASSEMBLY, and
ASSEMBLY is IO_NOTIFY_TRANSPORT, such as sync_none_socketpair. Without that commit in the history (a shallow clone) an empty
file is made, and one called missing beside COMMIT.
END
}

[[ ${1-} = -h || ${1-} = --help ]] && usage && exit 0
(($# == 1)) || { usage >&2 && exit 2; }

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
host=$1
place=$(dirname "$host")
commit=$(basename "$place")
mkdir -p "$place"
if ! git -C "$root" cat-file -e "$commit^{commit}" 2> /dev/null; then
    touch "$(dirname "$place")/missing" "$host"
    exit 0
fi
rm -f "$(dirname "$place")/missing"
source=$(mktemp -d)
trap 'rm -rf "$source"' EXIT
git -C "$root" archive "$commit" include test/restart | tar -x -C "$source"
IFS=- read -r io notify transport <<< "$(sed 's/^host_//;s/_/-/;s/_/-/' <<< "$(basename "$host")")"
"${CXX:-g++}" -std=c++20 -pthread -I"$source/include" -DECDYSIS_TEST_IO="$io" -DECDYSIS_TEST_NOTIFY="$notify" \
    -DECDYSIS_TEST_TRANSPORT="$transport" -DECDYSIS_TEST_LAUNCH=direct "$source/test/restart/host.cpp" \
    -o "$host" -lboost_filesystem -lseccomp
