#!/usr/bin/env bash
# SPDX-License-Identifier: BSL-1.0
set -euo pipefail

usage()
{
    cat << 'END'
usage: older.sh DIRECTORY COMMIT ASSEMBLY...

Builds the test's host of an earlier commit, with that commit's headers, as DIRECTORY/COMMIT/host_ASSEMBLY. An ASSEMBLY is
IO_NOTIFY_TRANSPORT, such as sync_none_socketpair. What is there already is not built again. Without that commit in the
history (a shallow clone) DIRECTORY/COMMIT/missing says so.
END
}

[[ ${1-} = -h || ${1-} = --help ]] && usage && exit 0
(($# > 2)) || { usage >&2 && exit 2; }

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
place=$1/$2
commit=$2
shift 2
mkdir -p "$place"
rm -f "$place/missing"
if ! git -C "$root" cat-file -e "$commit^{commit}" 2> /dev/null; then
    echo "commit $commit is not in this clone" > "$place/missing"
    exit 0
fi
source=$place/source
if [[ ! -e $source ]]; then
    mkdir "$source.new"
    git -C "$root" archive "$commit" include test/restart | tar -x -C "$source.new"
    mv "$source.new" "$source"
fi
for assembly in "$@"; do
    [[ -x $place/host_$assembly ]] && continue
    IFS=- read -r io notify transport <<< "$(sed 's/_/-/;s/_/-/' <<< "$assembly")"
    "${CXX:-g++}" -std=c++20 -pthread -I"$source/include" -DECDYSIS_TEST_IO="$io" -DECDYSIS_TEST_NOTIFY="$notify" \
        -DECDYSIS_TEST_TRANSPORT="$transport" -DECDYSIS_TEST_LAUNCH=direct "$source/test/restart/host.cpp" \
        -o "$place/host_$assembly.new" -lboost_filesystem -lseccomp
    mv "$place/host_$assembly.new" "$place/host_$assembly"
done
