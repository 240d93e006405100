#!/usr/bin/env bash
# Install the Debian packages that are missing. Nothing to do, nothing done: instant, no root needed.
#
#   setup_system.sh          what it takes to build and use: packages.txt, with CUDA=11.8 also packages-cuda-11.8.txt
#   setup_system.sh run      what it takes to use a finished build: packages-run.txt
#   setup_system.sh test     what the tests can use beside: packages-test.txt
#   setup_system.sh wheel    what it takes to build wheels: packages-wheel.txt
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
kind=${1:-build}
case $kind in
    build) lists=("$here/packages.txt") ;;
    run | test | wheel) lists=("$here/packages-$kind.txt") ;;
    *) echo "usage: setup_system.sh [build|run|test|wheel]" >&2 && exit 1 ;;
esac
more=$here/packages-cuda-${CUDA:-none}.txt
if [ "$kind" = build ] && [ -f "$more" ]; then lists+=("$more"); fi

die() {
    echo "setup_system.sh: $*" >&2
    exit 1
}

# shellcheck source=docker/lib/progress.sh
source "$here/lib/progress.sh"

# Set missing to the names in the lists that are neither installed nor provided by what is (as libprotobuf32 is by the
# libprotobuf32t64 of Debian 13).
find_missing() {
    local wanted installed
    wanted=$(sed 's/#.*//' "${lists[@]}" | tr -s ' \t' '\n' | sed '/^$/d' | sort -u)
    installed=$(dpkg-query -W -f '${db:Status-Status} ${Package}, ${Provides}\n' |
        sed -n 's/^installed //p' | tr ',' '\n' | sed 's/(.*//' | tr -d ' ' | sort -u)
    mapfile -t missing < <(comm -23 <(echo "$wanted") <(echo "$installed"))
}

# By default apt takes a name that it does not know for a regular expression: g++-11 would be fifty packages.
names_only=(-o APT::Cmd::Pattern-Only=true)

# Run apt-get $@ as root, without a word but how far it is, unless it fails. A descriptor of its own says how far: apt closes
# that one for what it runs, and sudo all above 2.
apt() {
    local command='exec apt-get -q -o Dpkg::Use-Pty=0 "$@" 3>&1' status=()
    [ "$1" != install ] || status=(-o APT::Status-Fd=3)
    "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive sh -c "$command" sh "${names_only[@]}" "${status[@]}" "$@" 2>&1 |
        read_status | show_progress "  percent" || { tail -n 30 "$log" >&2 && return 1; }
}

# Of what apt-get prints, pass on how far it is, as "DONE 100": the download is the first half. The rest goes to the log.
read_status() {
    local line percent form='^(dl|pm)status:[^:]*(:[a-z0-9-]+)?:([0-9]+)(\.[0-9]+)?:'
    : >"$log"
    while read -r line; do
        if [[ $line =~ $form ]]; then
            percent=${BASH_REMATCH[3]}
            [ "${BASH_REMATCH[1]}" = dl ] || percent=$((percent + 100))
            echo "$((percent / 2)) 100"
        else
            echo "$line" >>"$log"
        fi
    done
}

if ! command -v dpkg-query >/dev/null || ! command -v apt-get >/dev/null; then
    die "no apt here: install the equivalents of ${lists[*]} yourself (this is made for Debian)"
fi
find_missing
[ ${#missing[@]} -gt 0 ] || exit 0

as_root=()
if [ "$(id -u)" != 0 ]; then
    command -v sudo >/dev/null || die "no root and no sudo; ask an administrator for: apt-get install ${missing[*]}"
    as_root=(sudo)
fi
log=$(mktemp)
trap 'rm -f "$log"' EXIT

# A certificate bundle that is there without its package was put there by hand (for a company's proxy, say). The package
# would replace it; from here the package takes it over.
bundle=/etc/ssl/certs/ca-certificates.crt
if [ -s $bundle ] && [[ " ${missing[*]} " == *" ca-certificates "* ]]; then
    "${as_root[@]}" install -D -m 644 $bundle /usr/local/share/ca-certificates/present-before-setup.crt
fi

echo "Installing Debian packages: ${missing[*]}"
apt update || die "apt-get update failed (see above): is the package archive reachable?"
# CUDA 11.8's host compiler is the one package that newer releases do not have.
if [[ " ${missing[*]} " == *" g++-11 "* ]] && ! apt-get -s "${names_only[@]}" install g++-11 >/dev/null 2>&1; then
    die "CUDA 11.8 takes no compiler newer than g++ 11, which this system's apt does not have: use Debian 12 or the" \
        "image (docker/Dockerfile)"
fi
apt install -y --no-install-recommends "${missing[@]}" || die "apt-get could not install (see above): ${missing[*]}"
find_missing
[ ${#missing[@]} = 0 ] || die "still missing after apt-get install: ${missing[*]}"
