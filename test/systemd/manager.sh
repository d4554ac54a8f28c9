#!/usr/bin/env bash
# SPDX-License-Identifier: BSL-1.0
set -uo pipefail

usage()
{
    cat << 'END'
usage: test/systemd/manager.sh [--system] VERSION DIRECTORY
       test/systemd/manager.sh --fetch

Starts a real `systemd --user` of that version, 252 or 257, that has a control group, mounts and a runtime
directory of its own and knows no units but those in DIRECTORY/units. Prints `ready`, or `skipped: REASON` where
it cannot run, with status 77. When its standard input ends, so does everything that ran in it. By hand:

    mkdir /tmp/m && test/systemd/manager.sh 257 /tmp/m      # ends with Ctrl-D; meanwhile, elsewhere:
    /tmp/m/in systemctl --user status
    cp my.service /tmp/m/units && /tmp/m/in systemctl --user daemon-reload

  --system                  the system's manager instead, as process 1 of a pid namespace: `in systemctl` without --user.
                            Its /tmp and /var/tmp are its own, but for DIRECTORY; it has the machine's network; it sets up
                            nothing of the machine: /etc, /sys and /proc/sys are read-only.
  --fetch                   only fetches what version 257 takes
  DIRECTORY/in COMMAND...   runs a command beside the manager
  DIRECTORY/units           the units
  DIRECTORY/log             what the manager says: it has no journal. For more, `systemctl --user log-level debug`, but
                            version 252 drops what exceeds 200 lines in 5 s.
  DIRECTORY/cgroup          a file that names its control group, a directory

Version 252 is that of Debian 12 and must be this machine's. Version 257, of Debian 13, is fetched once with apt, from
the mirror that apt is set up for, into ${XDG_CACHE_HOME:-/var/cache}/ecdysis (13 MB are fetched; rm -r it to fetch it
anew), and laid over this machine's /usr, in the manager's mounts only: programs that were built here run there.
END
}

skip()
{
    echo "skipped: systemd $version: $*"
    exit 77
}

# What becomes the manager: it enters the control group, and makes that its own root.
enter()
{
    local scope=$1 version=$2 group=$5 pid
    local -a own=(--mount --cgroup --propagation private)
    [[ $scope = system ]] && own+=(--mount-proc --uts --ipc)
    read -r pid _ < /proc/self/stat # as it is known outside
    echo 0 > "$group/cgroup.procs" || skip "cannot enter a control group"
    exec unshare "${own[@]}" -- bash -c "$(declare -f skip inside); inside \"\$@\"" bash "${@:1:4}" "$pid"
}

# With mounts and control groups of its own: what may fail has said why on stdout.
inside()
{
    local scope=$1 version=$2 directory=$3 layer=$4 pid=$5 runtime=/run found path
    local join="nsenter --target $pid --mount --cgroup"
    if [[ -n $layer ]]; then
        mount -t overlay -o "lowerdir=$layer:/usr" overlay /usr || skip "cannot lay it over /usr with overlayfs"
    fi
    mount -t tmpfs -o mode=755 tmpfs /run || skip "cannot mount a tmpfs"
    mount -t cgroup2 cgroup2 /sys/fs/cgroup || skip "cannot mount a cgroup2"
    mount --bind "$directory/kmsg" /dev/kmsg || skip "cannot mount over /dev/kmsg"
    if [[ $scope = system ]]; then
        # It takes the machine for its own, and would set it up.
        [[ -s /etc/machine-id ]] || skip "there is no /etc/machine-id"
        for path in /proc/sys /sys /etc; do
            mount --rbind "$path" "$path" && mount -o remount,bind,ro "$path" || skip "cannot make $path read-only"
        done
        mount --bind /dev/null /dev/console || skip "cannot mount over /dev/console"
        # What is needed of the old /tmp: the manager's directory, and this tree if it is there.
        mkdir /run/0 /run/1 && mount --bind "$directory" /run/0 && mount --bind "$tree" /run/1 &&
            mount -t tmpfs tmpfs /tmp && mount -t tmpfs tmpfs /var/tmp &&
            mkdir -p "$directory" "$tree" && mount --move /run/0 "$directory" && mount --move /run/1 "$tree" &&
            rmdir /run/0 /run/1 || skip "cannot mount over /tmp"
        join+=" --pid --uts --ipc --"
        set -- container=ecdysis
    else
        mkdir -p /run/systemd/system /run/systemd/inaccessible/dir
        touch /run/systemd/inaccessible/reg && chmod 000 /run/systemd/inaccessible/* # what the system's manager makes for ProtectHome=
        runtime=$directory/run
        mkdir -m 700 "$runtime"
        join+=" -- env -u DBUS_SESSION_BUS_ADDRESS 'XDG_RUNTIME_DIR=$runtime'"
        set -- "XDG_RUNTIME_DIR=$runtime"
    fi
    mkdir "$directory/none"
    found=$(/usr/lib/systemd/systemd --version 2>&1 | sed -n '1s/^systemd \([0-9]*\).*/\1/p')
    [[ $found = "$version" ]] || skip "the systemd that is here is ${found:-none}"
    printf '#!/bin/sh\nexec %s "$@"\n' "$join" > "$directory/in.new"
    chmod +x "$directory/in.new" && mv "$directory/in.new" "$directory/in"
    exec env -i "PATH=$PATH" LANG=C.UTF-8 "HOME=$directory" "$@" \
        "SYSTEMD_UNIT_PATH=$directory/units" "SYSTEMD_GENERATOR_PATH=$directory/none" \
        "SYSTEMD_ENVIRONMENT_GENERATOR_PATH=$directory/none" \
        SYSTEMD_LOG_TARGET=kmsg SYSTEMD_LOG_RATELIMIT_KMSG=0 SYSTEMD_LOG_LEVEL=notice \
        /usr/lib/systemd/systemd "--$scope" < /dev/null >> "$directory/log" 2>&1
}

# Fills $layer with the /usr of a Debian 13 that has little but systemd; one at a time, and once.
fetch()
{
    local cache=${XDG_CACHE_HOME:-/var/cache}/ecdysis work uri keys=/usr/share/keyrings/debian-archive-keyring.gpg package
    layer=$cache/debian-13-systemd/usr
    [[ $layer != *[:,\\]* ]] || skip "overlayfs takes no directory with : or , in its name: $layer"
    [[ -d $layer ]] && return
    for package in apt-get dpkg-deb flock; do
        command -v "$package" > /dev/null || skip "there is no $package to fetch it with"
    done
    mkdir -p "$cache" && exec 9> "$cache/lock" && flock 9 || skip "cannot write to $cache"
    [[ -d $layer ]] && { exec 9>&-; return; }
    uri=$(apt-get indextargets --format '$(REPO_URI)' 'Created-By: Packages' 'Origin: Debian' 'Label: Debian' |
        sort -u | head -n 1)
    [[ -n $uri ]] || skip "apt knows no mirror of Debian (has apt-get update been run?)"
    rm -rf "$cache"/new.*
    work=$(mktemp -d "$cache/new.XXXXXX") || skip "cannot write to $cache"
    mkdir -p "$work"/{lists,archives}/partial "$work"/{parts,tree}
    : > "$work/status"
    echo "deb [signed-by=$keys] $uri trixie main" > "$work/sources"
    cat > "$work/conf" << END
Dir::State "$work"; Dir::State::lists "lists"; Dir::State::status "$work/status";
Dir::Cache "$work"; Dir::Cache::archives "archives";
Dir::Etc::sourcelist "$work/sources"; Dir::Etc::sourceparts "$work/parts"; Dir::Etc::preferencesparts "$work/parts";
Acquire::Languages "none"; Acquire::IndexTargets::deb::DEP-11::DefaultEnabled "false"; Acquire::Retries "2";
APT::Install-Recommends "false"; APT::Sandbox::User "root";
END
    if ! { APT_CONFIG=$work/conf timeout 200 apt-get update -q --error-on=any &&
        APT_CONFIG=$work/conf timeout 200 apt-get install -q -y --download-only systemd; } > "$work/said" 2>&1; then
        reason=$(grep -m 1 '^[EW]:' "$work/said")
        rm -rf "$work"
        skip "cannot fetch it: ${reason:-it takes too long}"
    fi
    for package in "$work"/archives/*.deb; do
        dpkg-deb --extract "$package" "$work/tree" || skip "cannot unpack ${package##*/}"
    done
    rm -rf "$cache/debian-13-systemd"
    mkdir "$work/done" && mv "$work/tree/usr" "$work/done/usr" && mv "$work/done" "$cache/debian-13-systemd" ||
        skip "cannot write to $cache"
    rm -rf "$work"
    exec 9>&-
}

# Everything that ever ran in the control group ends, whatever it forked.
end_all()
{
    local events tries
    [[ -d ${group-} ]] || return
    exec 7>&2 2> /dev/null # bash would say that it was killed
    [[ -n ${manager-} ]] && kill -KILL "$manager"
    for ((tries = 0; tries < 500; ++tries)); do
        echo 1 > "$group/cgroup.kill" || kill -KILL $(find "$group" -name cgroup.procs -exec cat {} +)
        events=$(< "$group/cgroup.events")
        [[ $events = *"populated 0"* ]] && break
        sleep 0.01
    done
    find "$group" -depth -type d -exec rmdir {} +
    [[ ! -d $group ]] || { echo "cannot remove $group" >&7 && exit 1; }
}

main()
{
    local scope=user program unit tries status
    local -a start
    layer=
    [[ ${1-} = --system ]] && { scope=system; shift; }
    case ${1-} in
    252 | 257) ;;
    --fetch)
        version=257
        fetch
        exit
        ;;
    -h | --help) usage && exit 0 ;;
    *) usage >&2 && exit 2 ;;
    esac
    version=$1
    directory=$(realpath -e "${2-}") || { usage >&2; exit 2; }
    tree=$(realpath "$(dirname "${BASH_SOURCE[0]}")/../..")
    export tree

    ((EUID == 0)) || skip "it takes root"
    for program in unshare nsenter find; do
        command -v "$program" > /dev/null || skip "there is no $program"
    done
    unified=$(awk '$3 == "cgroup2" { print $2; exit }' /proc/self/mounts)
    [[ -n $unified ]] || skip "no cgroup2 is mounted"
    [[ $(uname -m) = x86_64 || $(uname -m) = aarch64 ]] || skip "not tried on a $(uname -m)"
    [[ $version = 257 ]] && fetch

    trap end_all EXIT
    trap 'exit 1' INT TERM HUP
    group=$(mktemp -d "$unified/ecdysis-XXXXXX" 2> /dev/null) || skip "cannot make a control group in $unified"
    echo "$group" > "$directory/cgroup"

    mkdir -p "$directory/units"
    for unit in default sysinit basic shutdown; do
        printf '[Unit]\nDescription=%s\nDefaultDependencies=no\n' "$unit" > "$directory/units/$unit.target"
    done
    printf 'AllowIsolate=yes\nWants=basic.target\nAfter=basic.target\n' >> "$directory/units/default.target"

    # It would write its log to a journal, a terminal or the kernel. What it takes for the kernel's log is this.
    mkfifo "$directory/kmsg" && exec 8<> "$directory/kmsg" || exit
    cat < "$directory/kmsg" >> "$directory/log" 8>&- &

    start=(bash -c "$(declare -f skip enter inside); enter \"\$@\"" bash "$scope" "$version" "$directory" "$layer" "$group")
    [[ $scope = system ]] && start=(unshare --pid --fork --kill-child -- "${start[@]}")
    "${start[@]}" < /dev/null 2>> "$directory/log" 8>&- &
    manager=$!
    for ((tries = 0; tries < 600; ++tries)); do
        kill -0 "$manager" 2> /dev/null || break
        [[ -x $directory/in ]] &&
            [[ $("$directory/in" systemctl "--$scope" is-system-running 2> /dev/null) = @(running|degraded) ]] && break
        sleep 0.05
    done
    if ! kill -0 "$manager" 2> /dev/null; then
        wait "$manager"
        status=$?
        ((status == 77)) && exit 77
        skip "it ended at once, with status $status: $(tail -n 1 "$directory/log")"
    fi
    ((tries < 600)) || { echo "failed: not ready within 30 s, see $directory/log" && exit 1; }
    echo ready
    cat > /dev/null
}

# Read to here before it begins: the file may be edited meanwhile.
main "$@"; exit
