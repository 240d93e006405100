# shellcheck shell=bash
# Caffe's source: the pinned tarball, fetched through apt, and our patches on top of it.

version=1.0.0+git20180821.99bd997
tarball=caffe_$version.orig.tar.gz
tarball_sha256=e0eb3f06794f7402c77b7dec8e8480273ee1a1bb192e9122b621a69d4147ad0c
debian_source=caffe=$version-8
debian_section="bullseye main" # the Debian release that carries this source package

is_pinned() {
    echo "$tarball_sha256  $1" | sha256sum --check --status
}

# The tarball in build/downloads, from CAFFE_TARBALL or from apt.
fetch_source() {
    local target=$build/downloads/$tarball
    mkdir -p "$build/downloads"
    if [ -n "${CAFFE_TARBALL:-}" ]; then
        [ -r "$CAFFE_TARBALL" ] || die "CAFFE_TARBALL=$CAFFE_TARBALL: no such file"
        is_pinned "$CAFFE_TARBALL" || die "CAFFE_TARBALL=$CAFFE_TARBALL: not the pinned source (sha256 differs)"
        cmp -s "$CAFFE_TARBALL" "$target" || { cp "$CAFFE_TARBALL" "$target.part" && mv "$target.part" "$target"; }
    elif ! { [ -f "$target" ] && is_pinned "$target"; }; then
        rm -f "$target"
        echo "Fetching Caffe's source through apt"
        apt_fetch "$build/downloads/apt" deb-src "$debian_section" source --download-only "$debian_source" ||
            die "$apt_problem; set CAFFE_TARBALL=/path/to/$tarball"
        is_pinned "$build/downloads/apt/$tarball" || die "the source that apt fetched is not the pinned one (sha256 differs)"
        mv "$build/downloads/apt/$tarball" "$target"
        rm -rf "$build/downloads/apt"
    fi
}

# Download through apt into folder $1: what `apt-get $4...` fetches of section $3 ("bullseye main"), sources or packages
# as $2 says (deb-src or deb). From the archives that the system's apt uses already (one of them is Debian's; the others
# have no such section), with a configuration, lists and caches of its own. On failure apt_problem says why.
# What comes is checked against the pinned sha256, so apt's own signatures are not needed.
apt_fetch() {
    local folder=$1 kind=$2 section=$3 wanted=${!#} log=$1/log archives archive
    command -v apt-get >/dev/null || { apt_problem="no apt here to fetch $wanted with" && return 1; }
    rm -rf "$folder"
    mkdir -p "$folder"/{lists,cache/archives}/partial
    archives=$(apt-get update --print-uris 2>/dev/null | sed -n "s|^'\(.*\)/dists/.*|\1|p" | sort -u || true)
    [ -n "$archives" ] || { apt_problem="apt has no package archive configured to fetch $wanted from" && return 1; }
    for archive in $archives; do
        echo "$kind [trusted=yes] $archive $section"
    done >"$folder/sources.list"
    local options=(
        -q -o Dir::Etc::SourceList="$folder/sources.list" -o Dir::Etc::SourceParts=/dev/null
        -o Dir::State::Lists="$folder/lists" -o Dir::Cache="$folder/cache" -o APT::Sandbox::User=
        -o APT::Get::List-Cleanup=0 -o Acquire::Languages=none -o Acquire::Check-Valid-Until=false -o Acquire::Retries=3
    )
    apt-get "${options[@]}" update >"$log" 2>&1 || true # an archive without that section counts as an error
    apt_problem="apt could not fetch $wanted of $section (why: $log)"
    (cd "$folder" && apt-get "${options[@]}" "${@:4}" >>"$log" 2>&1)
}

# The patches to apply, in order, one path a line. The CPU build leaves out those of series-cuda.
patches() {
    local series=("$here/patches/series")
    [ -z "$cuda" ] || series+=("$here/patches/series-cuda")
    sed -e 's/#.*//' -e '/^\s*$/d' -e "s|^|$here/patches/|" "${series[@]}"
}

# Upstream's tree with the patch queue. Files that come out as they were keep their time, so that ninja rebuilds only the
# rest.
prepare_source() {
    local fresh=$source.new queue patch file
    rm -rf "$fresh"
    mkdir -p "$fresh"
    tar -xmzf "$build/downloads/$tarball" -C "$fresh"
    mapfile -t queue < <(patches)
    for patch in "${queue[@]}"; do
        patch -d "$fresh" -p1 --fuzz=0 --silent --no-backup-if-mismatch <"$patch" ||
            die "$(basename "$patch") does not apply"
    done
    if [ -d "$source" ]; then
        (cd "$fresh" && find . -type f -print0) | while IFS= read -r -d '' file; do
            if cmp -s "$fresh/$file" "$source/$file"; then touch -r "$source/$file" "$fresh/$file"; fi
        done
    fi
    rm -rf "$source.old"
    if [ -d "$source" ]; then mv "$source" "$source.old"; fi
    mv "$fresh" "$source"
    rm -rf "$source.old"
}
