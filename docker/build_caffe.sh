#!/usr/bin/env bash
# Build Caffe from source: the pinned upstream tarball, our patch queue, CMake and ninja. The one recipe.
#
#   build_caffe.sh [caffe]   build, install into build/caffe, make `import caffe` work in the virtual environment
#   build_caffe.sh test      the same, then upstream's own tests (gtest and pycaffe), all that can run on this machine
#
# Needs docker/setup_system.sh and a virtual environment with requirements.txt first (for test: requirements-dev.txt).
# Does nothing when nothing changed; rebuilds what a changed patch touches. Environment:
#   VENV           the virtual environment           (default: .venv of this checkout)
#   BUILD          everything that is built          (default: build of this checkout)
#   JOBS           compilers at a time               (default: number of processors)
#   CAFFE_TARBALL  the source, already downloaded    (default: fetched through apt)
#   CUDA           13 or 11.8: build for GPUs, with the toolkit of cuda-$CUDA.txt, which is fetched into build/; 0: for CPUs
#   ARCH           their architectures, e.g. "80 90" (default: this machine's GPUs, or else 90 with CUDA 13, 35 with 11.8);
#                  newer GPUs compile the last one's code at start
#   CUDNN=0        without cuDNN: Caffe's own kernels
#   NCCL=1         with NCCL, for training on several GPUs
#   GPU            set, as it is for training on GPUs: with the toolkit for this machine's GPUs, unless the build in use is
#                  a GPU build; several (0,1): with NCCL
# CUDA, ARCH, CUDNN and NCCL hold until they are asked for otherwise; at first it is CUDA=0.
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
root=$(dirname "$here")

venv=$(realpath -ms "${VENV:-$root/.venv}")
build=$(realpath -ms "${BUILD:-$root/build}")
jobs=${JOBS:-$(nproc)}

version=1.0.0+git20180821.99bd997
tarball=caffe_$version.orig.tar.gz
tarball_sha256=e0eb3f06794f7402c77b7dec8e8480273ee1a1bb192e9122b621a69d4147ad0c
debian_source=caffe=$version-8
debian_section="bullseye main" # the Debian release that carries this source package

nvcc_package=nvidia-cuda-toolkit=11.8.89~11.8.0-5~deb12u1
nvcc_sha256=d1156026e704fe0368b6295db06224ed00a727966fb13454f34e3f3102db0457
nvcc_section="bookworm non-free"

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

# ---[ Which build

# What was built last, as lines NAME=value, stands in for what is not asked for now. Sets cuda, arch, cudnn and nccl, and
# the places that depend on them.
choose_build() {
    local settings=$build/settings name value
    local -A last=([CUDA]= [ARCH]= [CUDNN]=1 [NCCL]=0)
    if [ -f "$settings" ]; then
        while IFS='=' read -r name value; do last[$name]=$value; done <"$settings"
    fi
    cuda=${CUDA-${last[CUDA]}}
    [ "$cuda" != 0 ] || cuda=
    if [ -z "${CUDA+set}" ] && [ -z "$cuda" ] && [ -n "${GPU:-}" ]; then cuda=$(toolkit_for_gpus); fi
    [ -z "$cuda" ] || [ -f "$here/cuda-$cuda.txt" ] || die "CUDA=$cuda: there are recipes for 13 and 11.8, and 0 (for CPUs)"
    [ "$cuda" = "${last[CUDA]}" ] || last=([ARCH]= [CUDNN]=1 [NCCL]=0)
    arch=$(echo "${ARCH:-${last[ARCH]}}" | tr -d . | tr ',;' '  ' | xargs)
    cudnn=${CUDNN:-${last[CUDNN]}}
    [[ ${GPU:-} != *,* ]] || last[NCCL]=1
    nccl=${NCCL:-${last[NCCL]}}
    [[ $cudnn$nccl == [01][01] ]] || die "CUDNN=$cudnn NCCL=$nccl: each is 0 or 1"
    if [ -n "$cuda" ]; then
        [ -n "$arch" ] || arch=$(gpus_here)
        [ -n "$arch" ] || arch=$([ "$cuda" = 11.8 ] && echo 35 || echo 90)
        check_architectures
    else
        arch='' cudnn=1 nccl=0
    fi

    flavour=${cuda:+cuda-$cuda}
    flavour=${flavour:-cpu}
    toolkit=$build/cuda-$cuda/nvidia
    cuda_root=$toolkit/cu${cuda%%.*}
    source=$build/caffe-src${cuda:+-cuda-$cuda}
    binary=$build/caffe-$flavour
    prefix=$binary/install
    stamp=$binary/stamp
}

remember_build() {
    printf '%s\n' "CUDA=$cuda" "ARCH=$arch" "CUDNN=$cudnn" "NCCL=$nccl" >"$build/settings.part"
    mv "$build/settings.part" "$build/settings"
}

# The architectures of this machine's GPUs, smallest first ("80 90"); nothing where no driver tells (one for a K40 cannot).
gpus_here() {
    local found
    found=$(nvidia-smi --query-gpu=compute_cap --format=csv,noheader 2>/dev/null | tr -d . | sort -un | xargs || true)
    if [[ $found =~ ^[0-9][0-9\ ]*$ ]]; then echo "$found"; fi
}

# CUDA 13 knows GPUs from 75 (Turing) on, and its drivers tell the architecture.
toolkit_for_gpus() {
    local found hint="to build for another machine's GPUs say CUDA=13 or CUDA=11.8"
    command -v nvidia-smi >/dev/null || die "GPU=$GPU: no NVIDIA driver here (no nvidia-smi); $hint"
    found=$(nvidia-smi -L 2>&1) || die "GPU=$GPU: nvidia-smi fails: $(echo "$found" | head -1); $hint"
    found=$(gpus_here)
    [ "$(echo "${found:-0}" | cut -d' ' -f1)" -ge 75 ] && echo 13 || echo 11.8
}

# ---[ CUDA

# Before anything is fetched.
check_architectures() {
    local known one
    known=$(sed -n 's/^# ARCH: //p' "$here/cuda-$cuda.txt")
    for one in $arch; do
        [[ " $known " == *" $one "* ]] || die "ARCH=$one: CUDA $cuda knows $known"
    done
}

# The toolkit's wheels, and the names that linkers look for: wheels carry libX.so.13 only.
fetch_cuda() {
    local folder=$build/cuda-$cuda library
    cmp -s "$here/cuda-$cuda.txt" "$folder/wheels.txt" && return
    echo "Fetching CUDA $cuda"
    rm -rf "$folder"
    "$venv/bin/python" -m pip install --quiet --disable-pip-version-check --no-deps --target "$folder" \
        -r "$here/cuda-$cuda.txt" || die "pip could not fetch CUDA $cuda (see above)"
    [ "$cuda" != 11.8 ] || assemble_cuda_11
    ln -s lib "$cuda_root/lib64"
    for library in "$toolkit"/*/lib/lib*.so.*; do
        ln -sf "$(basename "$library")" "${library%.so.*}.so"
    done
    # Where cuDNN looks for libraries that it loads when it needs them.
    mkdir "$toolkit/cublas" "$toolkit/cuda_nvrtc"
    ln -s "../$(basename "$cuda_root")/lib" "$toolkit/cublas/lib"
    ln -s "../$(basename "$cuda_root")/lib" "$toolkit/cuda_nvrtc/lib"
    cp "$here/cuda-$cuda.txt" "$folder/wheels.txt"
}

# CUDA 11's wheels have a folder each, and none has the compiler: it comes out of Debian's package, which is not installed.
assemble_cuda_11() {
    local folder=$build/downloads/cuda-11 part
    mkdir -p "$cuda_root/nvvm/bin"
    for part in cuda_nvcc cuda_runtime cuda_cccl cuda_nvrtc cublas curand; do
        cp -a "$toolkit/$part/." "$cuda_root"
        rm -r "${toolkit:?}/$part"
    done
    apt_fetch "$folder" deb "$nvcc_section" download "$nvcc_package" || die "$apt_problem"
    echo "$nvcc_sha256  $(echo "$folder"/*.deb)" | sha256sum --check --status ||
        die "the $nvcc_package that apt fetched is not the pinned one (sha256 differs)"
    dpkg-deb -x "$folder"/*.deb "$folder/root"
    cp -a "$folder"/root/usr/bin/{bin2c,cudafe++,cuobjdump,fatbinary,nvlink} "$cuda_root/bin"
    cp -a "$folder"/root/usr/lib/nvidia-cuda-toolkit/bin/{nvcc,crt} "$cuda_root/bin"
    cp -a "$folder/root/usr/lib/nvidia-cuda-toolkit/bin/cicc" "$cuda_root/nvvm/bin"
    cat >"$cuda_root/bin/nvcc.profile" <<'END'
TOP = $(_HERE_)/..
NVVMIR_LIBRARY_DIR = $(TOP)/nvvm/libdevice
PATH += $(TOP)/nvvm/bin:$(_HERE_):
INCLUDES += "-I$(TOP)/include" $(_SPACE_)
LIBRARIES =+ $(_SPACE_) "-L$(TOP)/lib"
END
    # CMake tries the compiler with static libraries, which no wheel has: the shared runtime will do for one. The other is
    # for kernels that start kernels, which Caffe has none of.
    ln -s libcudart.so.11.0 "$cuda_root/lib/libcudart_static.so"
    ar cr "$cuda_root/lib/libcudadevrt.a"
    rm -rf "$folder"
}

cuda_options() {
    # "80 90" -> 80-real;90: machine code for each, and for the last one code that newer GPUs can compile.
    cmake_options+=(
        -DCMAKE_CUDA_COMPILER="$cuda_root/bin/nvcc" -DCMAKE_CUDA_ARCHITECTURES="${arch// /-real;}"
        -DUSE_CUDNN="$([ "$cudnn" = 0 ] && echo OFF || echo ON)" -DCUDNN_ROOT="$toolkit/cudnn"
        -DUSE_NCCL="$([ "$nccl" = 0 ] && echo OFF || echo ON)"
        -DNCCL_INCLUDE_DIR="$toolkit/nccl/include" -DNCCL_LIBRARIES="$toolkit/nccl/lib/libnccl.so"
    )
    # CUDA 11.8 takes no host compiler newer than g++ 11.
    [ "$cuda" != 11.8 ] || cmake_options+=(
        -DCMAKE_CUDA_HOST_COMPILER="$(command -v g++-11)"
        -DCMAKE_CUDA_FLAGS=-Wno-deprecated-gpu-targets
    )
}

# ---[ What the build depends on

check_tools() {
    local tool
    for tool in cmake ninja g++ patch protoc $([ "$cuda" != 11.8 ] || echo g++-11); do
        command -v $tool >/dev/null || die "$tool is missing: run ${cuda:+CUDA=$cuda }docker/setup_system.sh first"
    done
    [ -x "$venv/bin/python" ] || die "no virtual environment at $venv: make it, with requirements.txt in it, or set VENV"
}

# One text that changes whenever the build has to be looked at again.
fingerprint() {
    sha256sum "$here/build_caffe.sh" "$here/patches/series" $(patches) ${cuda:+"$here/cuda-$cuda.txt"}
    echo "$root $build $venv CUDA=$cuda ARCH=$arch CUDNN=$cudnn NCCL=$nccl"
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
    local folder=$1 kind=$2 section=$3 wanted=${!#} log=$1/log archives
    command -v apt-get >/dev/null || { apt_problem="no apt here to fetch $wanted with" && return 1; }
    rm -rf "$folder"
    mkdir -p "$folder"/{lists,cache/archives}/partial
    archives=$(apt-get update --print-uris 2>/dev/null | sed -n "s|^'\(.*\)/dists/.*|\1|p" | sort -u || true)
    [ -n "$archives" ] || { apt_problem="apt has no package archive configured to fetch $wanted from" && return 1; }
    printf "$kind [trusted=yes] %s $section\n" $archives >"$folder/sources.list"
    local options=(
        -q -o Dir::Etc::SourceList="$folder/sources.list" -o Dir::Etc::SourceParts=/dev/null
        -o Dir::State::Lists="$folder/lists" -o Dir::Cache="$folder/cache" -o APT::Sandbox::User=
        -o APT::Get::List-Cleanup=0 -o Acquire::Languages=none -o Acquire::Check-Valid-Until=false -o Acquire::Retries=3
    )
    apt-get "${options[@]}" update >"$log" 2>&1 || true # an archive without that section counts as an error
    apt_problem="apt could not fetch $wanted of $section (why: $log)"
    (cd "$folder" && apt-get "${options[@]}" "${@:4}" >>"$log" 2>&1)
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
        { rm -rf "$binary"/CMake{Cache.txt,Files} && die "cmake failed: $binary/configure.log"; }
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
    remember_build
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

# All tests, or without a usable GPU those that need none; they look for their data from the source's root. On a GPU in
# full precision: their gradients, told from small differences, are lost in TF32's rounding.
run_gtest() {
    local log=$binary/gtest.log rc=0 filter='*'
    if ! gpu_is_usable; then
        # Neither tests named after it, nor typed ones with the types GPUDevice<float> and GPUDevice<double>, the last two.
        filter=$(cat "$here/gtest-without-gpu.txt")
    fi
    (cd "$source" && CAFFE_TF32=0 "$binary/test/test.testbin" --gtest_filter="$filter") >"$log" 2>&1 || rc=$?
    gtest_all=$(sed -n 's/^\[==========\] Running \([0-9]*\) tests.*/\1/p' "$log")
    gtest_ok=$(grep -c '^\[       OK \]' "$log" || true)
    grep '^\[  FAILED  \]' "$log" || true
    [ "$rc" = 0 ] && [ "${gtest_all:=0}" -gt 0 ] && [ "$gtest_ok" = "$gtest_all" ] ||
        { echo "gtest failed (exit status $rc): $log" >&2; return 1; }
}

gpu_is_usable() {
    [ -n "$cuda" ] && "$venv/bin/python" -c 'import sys, caffe; sys.exit(caffe._caffe.gpu_problem(0) != "")'
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

choose_build
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
