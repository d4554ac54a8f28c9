# SPDX-License-Identifier: BSL-1.0
# Sourced by the scripts that run things: need_packages installs what is missing on Debian 12.
# shellcheck shell=bash

# What building and testing take. All of Boost is named, and asked for in one go, because an older
# Boost's development packages conflict with these and apt must see the whole to replace them.
build_packages=(
    libboost1.81-tools-dev libboost1.81-dev libboost-filesystem1.81-dev libboost-log1.81-dev
    libboost-test1.81-dev libboost-thread1.81-dev libseccomp-dev g++ clang libclang-rt-14-dev
)

# need_packages PACKAGE...   installs all of them if one is missing; silent if none is
need_packages()
{
    local package missing=() as_root=()
    if ! command -v dpkg-query > /dev/null || ! command -v apt-get > /dev/null; then
        echo "not a Debian: taking it that these are here: $*" >&2
        return 0
    fi
    for package in "$@"; do
        case $(dpkg-query -W -f '${db:Status-Status}' "$package" 2> /dev/null) in
        installed*) ;;
        *) missing+=("$package") ;;
        esac
    done
    ((${#missing[@]})) || return 0

    if ((EUID != 0)); then
        command -v sudo > /dev/null || {
            echo "missing, and neither root nor sudo to install them: ${missing[*]}" >&2
            return 1
        }
        as_root=(sudo)
    fi
    echo "installing with apt-get: ${missing[*]}"
    # env, for sudo drops the variable
    "${as_root[@]}" apt-get update -q &&
        "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install -y -q --no-install-recommends "$@" || {
        echo "apt-get could not install: ${missing[*]}" >&2
        return 1
    }
}
