#!/usr/bin/env bash
# Build wheels of Caffe, for one release of Python after the other, into dist/. Whatever Caffe takes is inside, but for
# CUDA's libraries, which are wheels of NVIDIA's.
#
#   sudo .ci/fresh_debian 11 docker/build_wheels.sh      in a bare Debian 11, so that they run wherever glibc is 2.31 or newer
#   docker/build_wheels.sh                               in the system that it is called in, as root
#
# Everything is made once: a second call goes on where the first one stopped. Environment:
#   PYTHONS        releases of Python, "3.9 3.11 3.12" by default, at first that of the system (3.9 in Debian 11); the wheel
#                  for 3.12 serves those after it, too
#   CUDA=13        for GPUs, with CUDA 13, cuDNN 9 and NCCL
#   ARCH           their architectures ("75 80 90 100 120"); those of one generation run code of its first one (80: 86, 89),
#                  newer GPUs compile the last one's at start
#   TESTS=1        with upstream's tests inside, to see a GPU compute (tools/gpu_check.sh)
#   PYTHON_HEADERS folder with headers, python3.10/Python.h and so on, for releases that Debian never had
#   SOURCES        folder with tarballs of wheel/sources.txt, where they cannot be fetched
#   PLATFORM       what the wheels are for          (default: manylinux_2_31_x86_64; auto: what the libraries allow)
#   BUILD          everything that is built          (default: build of this checkout)
#   JOBS           compilers at a time               (default: number of processors)
#   CAFFE_TARBALL, CAFFE_URL     as for build_caffe.sh
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
root=$(dirname "$here")

build=$(realpath -ms "${BUILD:-$root/build}")
jobs=${JOBS:-$(nproc)}
pythons=${PYTHONS:-3.9 3.11 3.12}
platform=${PLATFORM:-manylinux_2_31_x86_64}
work=$build/wheels
prefix=$work/prefix
licenses=$work/licenses
venv=$work/venv

die() {
    echo "build_wheels.sh: $*" >&2
    exit 1
}

# shellcheck source=docker/lib/choose.sh
source "$here/lib/choose.sh"
# shellcheck source=docker/lib/cuda.sh
source "$here/lib/cuda.sh"
# shellcheck source=docker/lib/source.sh
source "$here/lib/source.sh"
# shellcheck source=docker/wheel/libraries.sh
source "$here/wheel/libraries.sh"
# shellcheck source=docker/wheel/build.sh
source "$here/wheel/build.sh"

choose_wheel
mkdir -p "$work"
exec 9>"$work/.lock"
flock 9 # one build at a time
install_packages
make_venv
check_types
build_libraries
[ -z "$cuda" ] || fetch_cuda
prepare_caffe
for python in $pythons; do
    build_wheel "$python"
done
