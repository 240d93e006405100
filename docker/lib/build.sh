# shellcheck shell=bash
# Configure, compile, install.

cmake_options=(
    -DBLAS=Open
    -DUSE_LEVELDB=OFF
    -DBUILD_docs=OFF
    -Dpython_version=3
    -DCMAKE_POLICY_VERSION_MINIMUM=3.5 # CMake 4 takes no policy of 2.8, which upstream asks for
)

build_caffe() {
    local wanted problem
    drop_wheel
    wanted=$(fingerprint)
    problem=$(load_problem)
    if [ -n "$problem" ]; then
        # Whatever was compiled against the libraries of before is of no use beside those of now.
        echo "The Caffe in $binary does not work here any more ($problem): building it anew"
        rm -rf "$binary"
    elif up_to_date "$wanted"; then
        echo "Caffe is up to date"
        return
    fi
    check_tools
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
    echo "Building Caffe ($flavour) with $jobs jobs: some minutes"
    compile build.log || die "the build failed (see above)"
    remember_build
    install_caffe
    echo "$wanted" >"$stamp"
    echo "Caffe is in $build/caffe"
}

configure() {
    # A build folder that was moved, or made for another source tree, cannot be used.
    if [ -f "$binary/CMakeCache.txt" ] && ! grep -qxF "CMAKE_HOME_DIRECTORY:INTERNAL=$source" "$binary/CMakeCache.txt"; then
        rm -rf "$binary"
    fi
    mkdir -p "$binary"
    local include problem=''
    include=$(python_value 'sysconfig.get_path("include")')
    [ -f "$include/Python.h" ] || die "no Python.h in $include: run docker/setup_system.sh (python3-dev)"
    # Python is named outright: another one may come first on PATH.
    cmake -S "$source" -B "$binary" -G Ninja -DCMAKE_BUILD_TYPE=Release -DCMAKE_INSTALL_PREFIX="$prefix" \
        -DPython_EXECUTABLE="$venv/bin/python" -DPython_INCLUDE_DIR="$include" \
        "${cmake_options[@]}" >"$binary/configure.log" 2>&1 || problem="cmake failed"
    # CMake only mentions it when it leaves pycaffe out.
    if grep -q 'Python interface is disabled' "$binary/configure.log"; then
        problem="no nanobind in $venv, or no headers of its Python"
    fi
    [ -z "$problem" ] || { rm -rf "$binary"/CMake{Cache.txt,Files} && die "$problem: $binary/configure.log"; }
}

python_value() {
    "$venv/bin/python" -c "import sysconfig; print($1)"
}

# Let ninja make the targets $2..., with a count; all that compilers say goes into a log ($1), whose end is shown when they fail.
compile() {
    local log=$binary/$1
    NINJA_STATUS='[%f/%t] ' ninja -C "$binary" -j "$jobs" "${@:2}" 2>&1 | tee "$log" |
        sed -un 's|^\[\([0-9]*\)/\([0-9]*\)\] .*|\1 \2|p' | show_progress "  compiled" || { tail -n 30 "$log" && return 1; }
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
    add_types
    "$venv/bin/python" -c 'import caffe' || die "built, but 'import caffe' fails in $venv (see above)"
}

# Type stubs of pycaffe's binding, for editors and checkers.
add_types() {
    (cd "$prefix/python/caffe" && "$venv/bin/python" -m nanobind.stubgen --quiet --include-private --import . --module _caffe \
        --pattern-file "$source/python/caffe/stubs.txt" --marker-file py.typed --output-file _caffe.pyi) ||
        die "built, but nanobind makes no type stubs of it (see above)"
}
