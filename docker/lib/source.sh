# shellcheck shell=bash
# Caffe's source: upstream's pinned tree, fetched through apt or from its home, our patches on top of it, and our own files.

version=1.0.0+git20180821.99bd997
tarball=caffe_$version.orig.tar.gz
debian_source=caffe=$version-8
debian_section="bullseye main" # the Debian release that carries this source package
upstream_archive=${CAFFE_URL:-https://github.com/BVLC/caffe/archive/99bd99795dcdf0b1d3086a8d67ab1782a8a08383.tar.gz}

# What is pinned is the tree: archives of it are packed anew now and then, and their own hashes change.
tree_sha256=40e059ef5413038c0efa9460777fb94fabca35676804d6409491a49e909849a5

# One hash over the names and contents of all files below folder $1.
hash_tree() {
    (cd "$1" && find . ! -type d -print0 | LC_ALL=C sort -z | xargs -0 sha256sum | sha256sum | cut -d ' ' -f 1)
}

# Unpack archive $1 into folder $2, made anew, without the one folder that upstream's archive puts everything into.
unpack() {
    local top
    rm -rf "$2" "$2.top"
    mkdir -p "$2"
    tar -xmf "$1" -C "$2" 2>/dev/null || return 1
    top=$(find "$2" -mindepth 1 -maxdepth 1)
    if [ -d "$top" ]; then
        mv "$top" "$2.top"
        rmdir "$2"
        mv "$2.top" "$2"
    fi
}

is_pinned() {
    local folder=$build/downloads/check hash=''
    if unpack "$1" "$folder"; then hash=$(hash_tree "$folder"); fi
    rm -rf "$folder"
    [ "$hash" = "$tree_sha256" ]
}

# The source as an archive in build/downloads: from CAFFE_TARBALL, from apt, or where that has none from upstream's home.
fetch_source() {
    local target=$build/downloads/$tarball
    mkdir -p "$build/downloads"
    if [ -n "${CAFFE_TARBALL:-}" ]; then
        [ -r "$CAFFE_TARBALL" ] || die "CAFFE_TARBALL=$CAFFE_TARBALL: no such file"
        is_pinned "$CAFFE_TARBALL" || die "CAFFE_TARBALL=$CAFFE_TARBALL: not the pinned source (its files differ)"
        cmp -s "$CAFFE_TARBALL" "$target" || { cp "$CAFFE_TARBALL" "$target.part" && mv "$target.part" "$target"; }
    elif ! { [ -f "$target" ] && is_pinned "$target"; }; then
        rm -f "$target"
        fetch_from_apt || fetch_from_home ||
            die "no source of Caffe: $apt_problem; $home_problem; set CAFFE_TARBALL=/path/to/$tarball"
    fi
}

fetch_from_apt() {
    local folder=$build/downloads/apt
    echo "Fetching Caffe's source through apt"
    apt_fetch "$folder" deb-src "$debian_section" source --download-only "$debian_source" || return 1
    apt_problem="what apt fetched is not the pinned source (its files differ)"
    is_pinned "$folder/$tarball" || return 1
    mv "$folder/$tarball" "$build/downloads/$tarball"
    rm -rf "$folder"
}

# On failure home_problem says why.
fetch_from_home() {
    local part=$build/downloads/$tarball.part
    echo "apt has none; fetching it from $upstream_archive"
    home_problem=$("$venv/bin/python" -c '
import shutil, sys, urllib.request
try:
    with urllib.request.urlopen(sys.argv[1], timeout=60) as answer, open(sys.argv[2], "wb") as file:
        shutil.copyfileobj(answer, file)
except Exception as error:
    sys.exit(f"{sys.argv[1]}: {error}")' "$upstream_archive" "$part" 2>&1) || return 1
    home_problem="what is at $upstream_archive is not the pinned source (its files differ)"
    is_pinned "$part" || return 1
    mv "$part" "$build/downloads/$tarball"
}

# Download through apt into folder $1: what `apt-get $4...` fetches of section $3 ("bullseye main"), sources or packages
# as $2 says (deb-src or deb). From the archives that the system's apt uses already (one of them is Debian's; the others
# have no such section), with a configuration, lists and caches of its own. On failure apt_problem says why.
# What comes is checked against a pinned sha256, so apt's own signatures are not needed.
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

# Our folders of one kind, patches or caffe, in the order in which they are taken, one a line: for every build, for GPUs.
parts() {
    echo "$here/$1"
    [ -z "$cuda" ] || echo "$here/$1-cuda"
}

# The patches to apply, in order, one path a line.
patches() {
    parts patches | while IFS= read -r folder; do
        sed -e 's/#.*//' -e '/^\s*$/d' -e "s|^|$folder/|" "$folder/series"
    done
}

# Our own files below folder $1, each path with a NUL behind it. They have the places that they get in Caffe's tree.
own_files() {
    (cd "$1" && find . -type f -not -path '*/__pycache__/*' -print0 | LC_ALL=C sort -z)
}

# Upstream's tree with the patch queue and our own files; one that upstream has as well replaces upstream's. Files that come
# out as they were keep their time, so that ninja rebuilds only the rest.
prepare_source() {
    local fresh=$source.new queue folders patch folder file
    unpack "$build/downloads/$tarball" "$fresh"
    mapfile -t queue < <(patches)
    for patch in "${queue[@]}"; do
        patch -d "$fresh" -p1 --fuzz=0 --silent --no-backup-if-mismatch <"$patch" ||
            die "$(basename "$patch") does not apply"
    done
    mapfile -t folders < <(parts caffe)
    for folder in "${folders[@]}"; do
        own_files "$folder" | (cd "$folder" && xargs -0r cp --parents -t "$fresh")
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
