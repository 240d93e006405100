# shellcheck shell=bash
# Whether there is anything to do: what the build was made from, and whether it still works on this system.

# One text that changes whenever Caffe has to be built again: our recipe, patches and files, where it is, what was chosen,
# and the Python and nanobind that pycaffe is compiled for. The versions of Debian's packages are not in it: an upgrade keeps
# their interfaces, and one that does not leaves a Caffe that cannot be loaded (load_problem).
fingerprint() {
    local queue folders folder
    mapfile -t queue < <(patches)
    sha256sum "$here/build_caffe.sh" "$here"/lib/*.sh "$here/patches/series" "${queue[@]}" \
        ${cuda:+"$here/patches-cuda/series" "$here/cuda-$cuda.txt"}
    mapfile -t folders < <(parts caffe)
    for folder in "${folders[@]}"; do
        own_files "$folder" | (cd "$folder" && xargs -0r sha256sum)
    done
    echo "$root $build $venv CUDA=$cuda ARCH=$arch CUDNN=$cudnn NCCL=$nccl"
    "$venv/bin/python" -c 'import importlib.metadata, sysconfig
print(sysconfig.get_config_var("SOABI"), "nanobind", importlib.metadata.version("nanobind"))' 2>/dev/null ||
        die "nanobind is missing in $venv: install requirements.txt into it"
}

up_to_date() {
    [ -f "$stamp" ] && [ "$(cat "$stamp")" = "$1" ] && [ -x "$prefix/bin/caffe" ] &&
        [ "$(readlink "$build/caffe")" = "caffe-$flavour/install" ] && [ -f "$(pth_file)" ]
}

# Why the pycaffe that is installed, and so the libcaffe below it, cannot be loaded: the linker's own words. Nothing when
# it can, or when none is installed.
load_problem() {
    local library=$prefix/python/caffe/_caffe.so output
    [ -f "$library" ] || return 0
    output=$("$venv/bin/python" -c 'import ctypes, sys; ctypes.CDLL(sys.argv[1])' "$library" 2>&1) || echo "${output##*$'\n'}"
}

# The file that makes `import caffe` work in the virtual environment.
pth_file() {
    echo "$(echo "$venv"/lib/python3*/site-packages)/caffe-build.pth"
}

# A Caffe that came as a wheel (make setup CAFFE_WHEEL=...) would hide the one that is built.
drop_wheel() {
    if [ -e "$venv/bin/caffe" ]; then
        "$venv/bin/python" -m pip uninstall --quiet --yes --disable-pip-version-check caffe
        rm -f "$venv"/.for-use-*
    fi
}

check_venv() {
    [ -x "$venv/bin/python" ] || die "no virtual environment at $venv: make it, with requirements.txt in it, or set VENV"
}

check_tools() {
    local tools=(cmake ninja g++ patch protoc) tool
    [ "$cuda" != 11.8 ] || tools+=(g++-11)
    for tool in "${tools[@]}"; do
        command -v "$tool" >/dev/null || die "$tool is missing: run ${cuda:+CUDA=$cuda }docker/setup_system.sh first"
    done
}
