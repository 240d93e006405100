# shellcheck shell=bash
# Which Caffe is built: what is asked for now (CUDA, ARCH, CUDNN, NCCL), and for the rest what was asked for last. Nothing
# else has a say, least of all how a net is going to be used.

# Set cuda (empty: for CPUs), arch, cudnn and nccl.
choose_build() {
    local name value
    local -A last=([CUDA]='' [ARCH]='' [CUDNN]=1 [NCCL]=0)
    if [ -f "$build/settings" ]; then
        while IFS='=' read -r name value; do last[$name]=$value; done <"$build/settings"
    fi
    cuda=${CUDA-${last[CUDA]}}
    [ "$cuda" != 0 ] || cuda=
    [ -z "$cuda" ] || [ -f "$here/cuda-$cuda.txt" ] || die "CUDA=$cuda: there are recipes for 13 and 11.8, and 0 (for CPUs)"
    # Another toolkit knows other architectures, and starts from the defaults.
    [ "$cuda" = "${last[CUDA]}" ] || last=([ARCH]='' [CUDNN]=1 [NCCL]=0)
    arch=$(echo "${ARCH:-${last[ARCH]}}" | tr -d . | tr ',;' '  ' | xargs)
    cudnn=${CUDNN:-${last[CUDNN]}}
    nccl=${NCCL:-${last[NCCL]}}
    [[ $cudnn$nccl == [01][01] ]] || die "CUDNN=$cudnn NCCL=$nccl: each is 0 or 1"
    if [ -n "$cuda" ]; then
        choose_architectures
    else
        arch='' cudnn=1 nccl=0
    fi
}

# Those asked for, or this machine's, or the one that the toolkit is taken for most. Checked before anything is fetched.
choose_architectures() {
    local known one
    [ -n "$arch" ] || arch=$(gpus_here)
    [ -n "$arch" ] || arch=$([ "$cuda" = 11.8 ] && echo 35 || echo 90)
    known=$(sed -n 's/^# ARCH: //p' "$here/cuda-$cuda.txt")
    for one in $arch; do
        [[ " $known " == *" $one "* ]] || die "ARCH=$one: CUDA $cuda knows $known"
    done
}

# The architectures of this machine's GPUs, smallest first ("80 90"); nothing where no driver tells (one for a K40 cannot).
gpus_here() {
    local capabilities
    capabilities=$(nvidia-smi --query-gpu=compute_cap --format=csv,noheader 2>/dev/null | tr -d . | sort -un | xargs || true)
    if [[ $capabilities =~ ^[0-9][0-9\ ]*$ ]]; then echo "$capabilities"; fi
}

# Set the places that depend on the choice: builds of different flavours stand side by side.
name_places() {
    name_toolkit
    source=$build/caffe-src${cuda:+-cuda-$cuda}
    binary=$build/caffe-$flavour
    prefix=$binary/install
    # shellcheck disable=SC2034  # who builds reads it
    stamp=$binary/stamp
}

name_toolkit() {
    flavour=cpu
    [ -z "$cuda" ] || flavour=cuda-$cuda
    toolkit=$build/cuda-$cuda/nvidia
    cuda_root=$toolkit/cu${cuda%%.*}
}

remember_build() {
    printf '%s\n' "CUDA=$cuda" "ARCH=$arch" "CUDNN=$cudnn" "NCCL=$nccl" >"$build/settings.part"
    mv "$build/settings.part" "$build/settings"
}
