#!/usr/bin/env bash
# Build Caffe from source: the pinned upstream tarball, our patches and files, CMake and ninja. The one recipe.
#
#   build_caffe.sh [caffe]   build, install into build/caffe, make `import caffe` work in the virtual environment
#   build_caffe.sh test      the same, then upstream's own tests (gtest and pycaffe), all that can run on this machine
#
# Needs docker/setup_system.sh and a virtual environment with requirements.txt first (for test: requirements-dev.txt).
# Does nothing when nothing changed; rebuilds what a changed patch or file touches. Environment:
#   VENV           the virtual environment           (default: .venv of this checkout)
#   BUILD          everything that is built          (default: build of this checkout)
#   JOBS           compilers at a time               (default: number of processors)
#   CAFFE_TARBALL  the source, already downloaded: Debian's tarball or upstream's archive (default: fetched through apt)
#   CAFFE_URL      upstream's archive, for where apt has none     (default: its home on GitHub)
#   CUDA           13 or 11.8: build for GPUs, with the toolkit of cuda-$CUDA.txt, which is fetched into build/; 0: for CPUs
#   ARCH           their architectures, e.g. "80 90" (default: this machine's GPUs, or else 90 with CUDA 13, 35 with 11.8);
#                  newer GPUs compile the last one's code at start
#   CUDNN=0        without cuDNN: Caffe's own kernels
#   NCCL=1         with NCCL, for training on several GPUs
# CUDA, ARCH, CUDNN and NCCL hold until they are asked for otherwise; at first it is CUDA=0.
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
root=$(dirname "$here")

venv=$(realpath -ms "${VENV:-$root/.venv}")
build=$(realpath -ms "${BUILD:-$root/build}")
jobs=${JOBS:-$(nproc)}

die() {
    echo "build_caffe.sh: $*" >&2
    exit 1
}

# shellcheck source=docker/lib/choose.sh
source "$here/lib/choose.sh"
# shellcheck source=docker/lib/cuda.sh
source "$here/lib/cuda.sh"
# shellcheck source=docker/lib/source.sh
source "$here/lib/source.sh"
# shellcheck source=docker/lib/progress.sh
source "$here/lib/progress.sh"
# shellcheck source=docker/lib/state.sh
source "$here/lib/state.sh"
# shellcheck source=docker/lib/build.sh
source "$here/lib/build.sh"
# shellcheck source=docker/lib/tests.sh
source "$here/lib/tests.sh"

choose_build
name_places
check_venv
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
