# shellcheck shell=bash
# The CUDA toolkit: fetched as wheels into build/cuda-*, never onto the system.

nvcc_package=nvidia-cuda-toolkit=11.8.89~11.8.0-5~deb12u1
nvcc_sha256=d1156026e704fe0368b6295db06224ed00a727966fb13454f34e3f3102db0457
nvcc_section="bookworm non-free"

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
    cat >"$cuda_root/bin/nvcc.profile" <<'PROFILE'
TOP = $(_HERE_)/..
NVVMIR_LIBRARY_DIR = $(TOP)/nvvm/libdevice
PATH += $(TOP)/nvvm/bin:$(_HERE_):
INCLUDES += "-I$(TOP)/include" $(_SPACE_)
LIBRARIES =+ $(_SPACE_) "-L$(TOP)/lib"
PROFILE
    # CMake tries the compiler with static libraries, which no wheel has: the shared runtime will do for one. The other is
    # for kernels that start kernels, which Caffe has none of.
    ln -s libcudart.so.11.0 "$cuda_root/lib/libcudart_static.so"
    ar cr "$cuda_root/lib/libcudadevrt.a"
    rm -rf "$folder"
}

# Add what a build for GPUs needs to cmake_options.
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
