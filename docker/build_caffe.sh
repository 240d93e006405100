#!/usr/bin/env bash
# Build Caffe from source: the pinned upstream tarball, our patch queue, CMake and ninja. The one recipe.
#
#   build_caffe.sh [caffe]   build, install into build/caffe, make `import caffe` work in the virtual environment
#   build_caffe.sh test      the same, then upstream's own tests (gtest and pycaffe), all that need no GPU
#
# Needs docker/setup_system.sh and a virtual environment with requirements.txt first (for test: requirements-dev.txt).
# Does nothing when nothing changed; rebuilds what a changed patch touches. Environment:
#   VENV           the virtual environment           (default: .venv of this checkout)
#   BUILD          everything that is built          (default: build of this checkout)
#   JOBS           compilers at a time               (default: number of processors)
#   CAFFE_TARBALL  the source, already downloaded    (default: fetched through apt)
#   CUDA=13        build for GPUs, with the CUDA 13 of cuda-13.txt, fetched through pip into build/cuda-13
#   ARCH           their architectures, e.g. "80 90" (default: 90); newer GPUs compile the last one's code at start
#   CUDNN=0        without cuDNN: Caffe's own kernels
#   NCCL=1         with NCCL, for training on several GPUs
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
root=$(dirname "$here")

venv=$(realpath -ms "${VENV:-$root/.venv}")
build=$(realpath -ms "${BUILD:-$root/build}")
jobs=${JOBS:-$(nproc)}

version=1.0.0+git20180821.99bd997
tarball=caffe_$version.orig.tar.gz
tarball_sha256=e0eb3f06794f7402c77b7dec8e8480273ee1a1bb192e9122b621a69d4147ad0c
debian_suite=bullseye # the Debian release that carries this source package
debian_source=caffe=$version-8

cuda=${CUDA:-}
flavour=${cuda:+cuda-$cuda}
flavour=${flavour:-cpu}
toolkit=$build/cuda-$cuda/nvidia
source=$build/caffe-src${cuda:+-cuda-$cuda}
binary=$build/caffe-$flavour
prefix=$binary/install
stamp=$binary/stamp
cmake_options=(
    -DBLAS=Open
    -DUSE_LEVELDB=OFF
    -DBUILD_docs=OFF
    -Dpython_version=3
)

die() {
    echo "build_caffe.sh: $*" >&2
    exit 1
}

# ---[ CUDA

# "80 90" -> 80-real;90: machine code for each, and for the last one code that newer GPUs can compile.
architectures() {
    local known arch list=()
    known=$("$toolkit/cu13/bin/nvcc" --list-gpu-arch | sed 's/compute_//' | tr '\n' ' ')
    for arch in ${ARCH:-90}; do
        [[ " $known" == *" $arch "* ]] || die "ARCH=$arch: CUDA $cuda knows ${known% }"
        list+=("$arch-real")
    done
    list[-1]=${list[-1]%-real}
    (IFS=';' && echo "${list[*]}")
}

# The toolkit's wheels, and the names that linkers look for: wheels carry libX.so.13 only.
fetch_cuda() {
    local folder=$build/cuda-$cuda library
    cmp -s "$here/cuda-$cuda.txt" "$folder/wheels.txt" && return
    echo "Fetching CUDA $cuda through pip"
    rm -rf "$folder"
    "$venv/bin/python" -m pip install --quiet --disable-pip-version-check --no-deps --target "$folder" \
        -r "$here/cuda-$cuda.txt" || die "pip could not fetch CUDA $cuda (see above)"
    ln -s lib "$toolkit/cu13/lib64"
    for library in "$toolkit"/*/lib/lib*.so.*; do
        ln -sf "$(basename "$library")" "${library%.so.*}.so"
    done
    cp "$here/cuda-$cuda.txt" "$folder/wheels.txt"
}

cuda_options() {
    local arch
    arch=$(architectures)
    cmake_options+=(
        -DCMAKE_CUDA_COMPILER="$toolkit/cu13/bin/nvcc" -DCMAKE_CUDA_ARCHITECTURES="$arch"
        -DUSE_CUDNN="$([ "${CUDNN:-1}" = 0 ] && echo OFF || echo ON)" -DCUDNN_ROOT="$toolkit/cudnn"
        -DUSE_NCCL="$([ "${NCCL:-0}" = 0 ] && echo OFF || echo ON)"
        -DNCCL_INCLUDE_DIR="$toolkit/nccl/include" -DNCCL_LIBRARIES="$toolkit/nccl/lib/libnccl.so"
    )
}

# ---[ What the build depends on

check_tools() {
    local tool
    for tool in cmake ninja g++ patch protoc; do
        command -v $tool >/dev/null || die "$tool is missing: run docker/setup_system.sh first"
    done
    [ -x "$venv/bin/python" ] || die "no virtual environment at $venv: make it, with requirements.txt in it, or set VENV"
}

# One text that changes whenever the build has to be looked at again.
fingerprint() {
    sha256sum "$here/build_caffe.sh" "$here/patches/series" $(patches)
    echo "$root $build $venv $cuda ${ARCH:-} ${CUDNN:-} ${NCCL:-}"
    "$venv/bin/python" -c 'import sys, importlib.metadata as m; print(sys.version, m.version("numpy"))' 2>/dev/null ||
        die "numpy is missing in $venv: install requirements.txt into it"
    dpkg-query -W $(sed 's/#.*//' "$here/packages.txt") 2>/dev/null || true
}

# The CPU build leaves out those of series-cuda.
patches() {
    local series=("$here/patches/series")
    [ -z "$cuda" ] || series+=("$here/patches/series-cuda")
    sed -e 's/#.*//' -e '/^\s*$/d' -e "s|^|$here/patches/|" "${series[@]}"
}

up_to_date() {
    [ -f "$stamp" ] && [ "$(cat "$stamp")" = "$1" ] && [ -x "$prefix/bin/caffe" ] &&
        [ "$(readlink "$build/caffe")" = "caffe-$flavour/install" ] && [ -f "$(pth_file)" ]
}

# ---[ Source

is_pinned() {
    echo "$tarball_sha256  $1" | sha256sum --check --status
}

fetch_source() {
    local target=$build/downloads/$tarball
    mkdir -p "$build/downloads"
    if [ -n "${CAFFE_TARBALL:-}" ]; then
        [ -r "$CAFFE_TARBALL" ] || die "CAFFE_TARBALL=$CAFFE_TARBALL: no such file"
        is_pinned "$CAFFE_TARBALL" || die "CAFFE_TARBALL=$CAFFE_TARBALL: not the pinned source (sha256 differs)"
        cmp -s "$CAFFE_TARBALL" "$target" || { cp "$CAFFE_TARBALL" "$target.part" && mv "$target.part" "$target"; }
    elif ! { [ -f "$target" ] && is_pinned "$target"; }; then
        rm -f "$target"
        apt_source "$build/downloads/apt"
        is_pinned "$build/downloads/apt/$tarball" || die "the source that apt fetched is not the pinned one (sha256 differs)"
        mv "$build/downloads/apt/$tarball" "$target"
        rm -rf "$build/downloads/apt"
    fi
}

# Download the Debian source package through apt into folder $1, from the archives that the system's apt uses already
# (one of them is Debian's; the others have no such suite), with a configuration, lists and caches of its own.
# What comes is checked against the pinned sha256, so apt's own signatures are not needed.
apt_source() {
    local folder=$1 log=$1/log archives
    local hint="set CAFFE_TARBALL=/path/to/$tarball"
    command -v apt-get >/dev/null || die "no apt here to fetch Caffe's source with: $hint"
    rm -rf "$folder"
    mkdir -p "$folder"/{lists,cache/archives}/partial
    archives=$(apt-get update --print-uris 2>/dev/null | sed -n "s|^'\(.*\)/dists/.*|\1|p" | sort -u || true)
    [ -n "$archives" ] || die "apt has no package archive configured to fetch Caffe's source from: $hint"
    printf "deb-src [trusted=yes] %s $debian_suite main\n" $archives >"$folder/sources.list"
    local options=(
        -q -o Dir::Etc::SourceList="$folder/sources.list" -o Dir::Etc::SourceParts=/dev/null
        -o Dir::State::Lists="$folder/lists" -o Dir::Cache="$folder/cache" -o APT::Sandbox::User=
        -o APT::Get::List-Cleanup=0 -o Acquire::Languages=none -o Acquire::Check-Valid-Until=false -o Acquire::Retries=3
    )
    echo "Fetching Caffe's source through apt"
    apt-get "${options[@]}" update >"$log" 2>&1 || true # an archive without that suite counts as an error
    (cd "$folder" && apt-get "${options[@]}" source --download-only "$debian_source" >>"$log" 2>&1) ||
        die "apt could not fetch $debian_source of $debian_suite (why: $log); $hint"
}

# Upstream tree + patch queue. Files that come out as they were keep their time, so that ninja rebuilds only the rest.
prepare_source() {
    local fresh=$source.new patch file
    rm -rf "$fresh"
    mkdir -p "$fresh"
    tar -xmzf "$build/downloads/$tarball" -C "$fresh"
    for patch in $(patches); do
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

# ---[ Build

configure() {
    # A build folder that was moved, or made for another source tree, cannot be used.
    if [ -f "$binary/CMakeCache.txt" ] && ! grep -qxF "CMAKE_HOME_DIRECTORY:INTERNAL=$source" "$binary/CMakeCache.txt"; then
        rm -rf "$binary"
    fi
    mkdir -p "$binary"
    local include library
    include=$(python_value 'sysconfig.get_path("include")')
    library=$(python_value 'sysconfig.get_config_var("LIBDIR") + "/" + sysconfig.get_config_var("LDLIBRARY")')
    [ -f "$include/Python.h" ] || die "no Python.h in $include: run docker/setup_system.sh (python3-dev)"
    # Python is named outright: another one may come first on PATH, and Boost.Python is made for Debian's.
    cmake -S "$source" -B "$binary" -G Ninja -DCMAKE_BUILD_TYPE=Release -DCMAKE_INSTALL_PREFIX="$prefix" \
        -DPYTHON_EXECUTABLE="$venv/bin/python" -DPYTHON_INCLUDE_DIR="$include" -DPYTHON_LIBRARY="$library" \
        "${cmake_options[@]}" >"$binary/configure.log" 2>&1 ||
        die "cmake failed: $binary/configure.log"
    # CMake only mentions it when it leaves pycaffe out.
    if grep -q 'Python interface is disabled' "$binary/configure.log"; then
        die "no Boost.Python or numpy for $venv/bin/python: $binary/configure.log"
    fi
}

python_value() {
    "$venv/bin/python" -c "import sysconfig; print($1)"
}

# Install beside, then swap: a Caffe that is running keeps its files, and nothing stale stays.
install_caffe() {
    local stage=$binary/stage
    rm -rf "$stage"
    DESTDIR=$stage cmake --install "$binary" >"$binary/install.log" 2>&1 || die "install failed: $binary/install.log"
    rm -rf "$prefix"
    mv "$stage$prefix" "$prefix"
    rm -rf "$stage"
    ln -sfn "caffe-$flavour/install" "$build/caffe"
    echo "$build/caffe/python" >"$(pth_file)"
    "$venv/bin/python" -c 'import caffe' || die "built, but 'import caffe' fails in $venv (see above)"
}

pth_file() {
    echo "$(echo "$venv"/lib/python3*/site-packages)/caffe-build.pth"
}

build_caffe() {
    local wanted
    wanted=$(fingerprint)
    if up_to_date "$wanted"; then
        echo "Caffe is up to date"
        return
    fi
    rm -f "$stamp"
    if [ -n "$cuda" ]; then
        fetch_cuda
        cuda_options
    else
        cmake_options+=(-DCPU_ONLY=ON)
    fi
    fetch_source
    prepare_source
    configure
    echo "Building Caffe ($flavour) with $jobs jobs"
    ninja -C "$binary" -j "$jobs" || die "the build failed (see above)"
    install_caffe
    echo "$wanted" >"$stamp"
    echo "Caffe is in $build/caffe"
}

# ---[ Upstream's tests

# Builds and runs them, and says how many passed; fails when one did not.
test_caffe() {
    local good=true
    "$venv/bin/python" -c 'import pydot' 2>/dev/null || die "pydot is missing in $venv: install requirements-dev.txt into it"
    command -v dot >/dev/null || die "dot is missing: run docker/setup_system.sh first (graphviz)"
    echo "Building upstream's tests with $jobs jobs"
    ninja -C "$binary" -j "$jobs" test.testbin || die "the build of the tests failed (see above)"
    run_gtest || good=false
    run_pycaffe_tests || good=false
    echo "gtest: $gtest_ok of $gtest_all passed; pycaffe: $pycaffe_ok of $pycaffe_all passed"
    $good
}

# All tests that need no GPU; they look for their data from the source's root.
run_gtest() {
    local log=$binary/gtest.log rc=0
    (cd "$source" && "$binary/test/test.testbin" --gtest_filter='-*GPU*') >"$log" 2>&1 || rc=$?
    gtest_all=$(sed -n 's/^\[==========\] Running \([0-9]*\) tests.*/\1/p' "$log")
    gtest_ok=$(grep -c '^\[       OK \]' "$log" || true)
    grep '^\[  FAILED  \]' "$log" || true
    [ "$rc" = 0 ] && [ "${gtest_all:=0}" -gt 0 ] && [ "$gtest_ok" = "$gtest_all" ] ||
        { echo "gtest failed (exit status $rc): $log" >&2; return 1; }
}

# Of the pycaffe that is installed, not of the source tree; in a folder of their own, for they leave files.
run_pycaffe_tests() {
    local log=$binary/pycaffe.log rc=0 scratch=$binary/pycaffe-tests failed
    rm -rf "$scratch"
    mkdir -p "$scratch"
    (cd "$scratch" && "$venv/bin/python" -m unittest discover -v -s "$source/python/caffe/test") >"$log" 2>&1 || rc=$?
    rm -rf "$scratch"
    pycaffe_all=$(sed -n 's/^Ran \([0-9]*\) tests\? in .*/\1/p' "$log")
    failed=$(grep -cE '^(ERROR|FAIL): ' "$log" || true)
    pycaffe_ok=$((${pycaffe_all:=0} - failed))
    grep -E '^(ERROR|FAIL): ' "$log" || true
    [ "$rc" = 0 ] && [ "$pycaffe_all" -gt 0 ] ||
        { echo "pycaffe's tests failed (exit status $rc): $log" >&2; return 1; }
}

# ---[ Go

[ -z "$cuda" ] || [ -f "$here/cuda-$cuda.txt" ] || die "CUDA=$cuda: there is a recipe for 13 only"
check_tools
mkdir -p "$build"
exec 9>"$build/.lock"
flock 9 # one build at a time
case ${1:-caffe} in
    caffe) build_caffe ;;
    test)
        build_caffe
        test_caffe
        ;;
    *) die "usage: build_caffe.sh [caffe|test]" ;;
esac
