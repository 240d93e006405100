#!/usr/bin/env bash
# Copy what a finished build needs to run into a folder: the checkout, .venv, the Caffe in use and, with CUDA, the libraries
# that it loads. For the last stage of docker/Dockerfile; the copy has to end up where the original lay.
#
#   collect_runtime.sh FOLDER
set -euo pipefail
shopt -s nullglob

root=$(dirname "$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)")
[ $# = 1 ] || { echo "usage: collect_runtime.sh FOLDER" >&2 && exit 1; }
[ -e "$root/build/caffe" ] || { echo "collect_runtime.sh: no Caffe here: run docker/build_caffe.sh first" >&2 && exit 1; }
mkdir -p "$1"
target=$(cd "$1" && pwd)

cd "$root"
caffe=$(dirname "$(readlink build/caffe)") # caffe-cpu, caffe-cuda-13, ...
toolkit=build/${caffe#caffe-}/nvidia       # of a GPU build
parts=(
    .venv Makefile LICENSE README.md pyproject.toml requirements*.txt docker prototxt pycaffe_scripts solver tools
    build/caffe "build/$caffe/install"
)
if [ -d "$toolkit" ]; then
    parts+=("$toolkit"/cu[0-9]*/lib/lib{cublas,cublasLt,cudart,curand,nvrtc,nvrtc-builtins}.so* "$toolkit"/{cublas,cuda_nvrtc}/lib)
fi
linked=$(ldd build/caffe/lib/libcaffe.so)
[[ $linked != *"not found"* ]] || { echo "collect_runtime.sh: build/caffe misses libraries: $linked" >&2 && exit 1; }
for library in cudnn nccl; do # they are options
    if [[ $linked == *"lib$library.so"* ]]; then parts+=("$toolkit/$library/lib"); fi
done
share=()
[ "$(stat -c %d "$target")" != "$(stat -c %d .)" ] || share=(--link) # a gigabyte or two need not lie there twice
cp -a "${share[@]}" --parents "${parts[@]}" "$target"
