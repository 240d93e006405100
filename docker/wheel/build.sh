# shellcheck shell=bash
# From the libraries to the wheels: Caffe's own code once, pycaffe's binding for each release of Python.

# Set cuda (empty: for CPUs), arch and the places of that kind of Caffe. Nothing is remembered from one call to the next.
choose_wheel() {
    cuda=${CUDA:-0} arch=${ARCH:-75 80 90 100 120} cudnn=1 nccl=1
    case $cuda in
        0) cuda='' arch='' ;;
        13) choose_architectures ;;
        *) die "CUDA=$cuda: wheels are made for 13, and 0 (for CPUs)" ;;
    esac
    name_toolkit
    source=$work/caffe-src-$flavour
    binary=$work/caffe-$flavour
    types=$work/types-$flavour
}

install_packages() {
    "$here/setup_system.sh" wheel
}

# What makes the wheels, whose Python need not be that of any.
make_venv() {
    local requirements=$here/wheel/requirements.txt
    if cmp -s "$requirements" "$venv/requirements.txt"; then return; fi
    python3 -m venv --clear "$venv"
    "$venv/bin/python" -m pip install --quiet --disable-pip-version-check --upgrade -r "$requirements" ||
        die "pip could not install $requirements (see above)"
    cp "$requirements" "$venv/requirements.txt"
}

prepare_caffe() {
    fetch_source
    prepare_source
}

# Print the folder with Python.h of release $1.
find_headers() {
    local version=$1 name release package hash folder=$work/downloads/apt target=$work/headers/python$1
    if [ -f "${PYTHON_HEADERS:-}/python$version/Python.h" ]; then
        echo "$PYTHON_HEADERS/python$version"
        return
    elif [ -f "/usr/include/python$version/Python.h" ]; then
        echo "/usr/include/python$version"
        return
    fi
    read -r _ release package hash < <(grep "^$version " "$here/wheel/headers.txt") ||
        die "no headers of Python $version: put them into PYTHON_HEADERS/python$version"
    if [ ! -f "$target/Python.h" ]; then
        apt_fetch "$folder" deb "$release main" download "$package" || die "$apt_problem"
        dpkg-deb -x "$folder"/*.deb "$folder/root"
        name=$(basename "$folder"/root/usr/include/python3*)
        # Debian keeps what depends on the machine apart.
        cp "$folder/root/usr/include/x86_64-linux-gnu/$name/pyconfig.h" "$folder/root/usr/include/$name"
        [ "$(hash_tree "$folder/root/usr/include/$name")" = "$hash" ] ||
            die "the headers of $package are not the pinned ones (now $(hash_tree "$folder/root/usr/include/$name"))"
        mkdir -p "$work/headers"
        rm -rf "$target"
        mv "$folder/root/usr/include/$name" "$target"
        rm -rf "$folder"
    fi
    echo "$target"
}

# The wheel for Python $1; from 3.12 on one for all that follow.
build_wheel() {
    local version=$1 abi=cp${1/./} stage=$work/stage headers own
    [ "${version#3.}" -lt 12 ] || abi=abi3
    headers=$(find_headers "$version") || exit 1
    echo "Building the wheel for Python $version"
    configure_wheel "$version" "$headers" >"$work/logs/configure-$version.log" 2>&1 ||
        { tail -n 20 "$work/logs/configure-$version.log" >&2 && die "cmake failed: $work/logs/configure-$version.log"; }
    rm -f "$binary/lib/_caffe.so" # ninja does not know of the static libraries that are in it
    ninja -C "$binary" -j "$jobs" pycaffe ${TESTS:+test.testbin} >"$work/logs/caffe-$version.log" 2>&1 ||
        { tail -n 20 "$work/logs/caffe-$version.log" >&2 && die "Caffe could not be built: $work/logs/caffe-$version.log"; }
    rm -rf "$stage"
    cmake -DCMAKE_INSTALL_PREFIX="$stage" -P "$binary/python/cmake_install.cmake" >/dev/null
    mkdir -p "$stage/python/caffe/proto"
    cp "$binary"/include/caffe/proto/caffe_pb2.py "$stage/python/caffe/proto"
    touch "$stage/python/caffe/proto/__init__.py"
    own=$("$venv/bin/python" -c 'import sys; print("%d.%d" % sys.version_info[:2])')
    [ "$version" != "$own" ] || make_types "$stage/python"
    cp "$types"/* "$stage/python/caffe" 2>/dev/null || die "types come from Python $own's wheel: build that first"
    LD_LIBRARY_PATH=$prefix/lib "$venv/bin/python" "$here/make_wheel.py" "$stage/python/caffe" --tag "cp${version/./}-$abi" \
        --source "$source" --licenses "$licenses" --platform "$platform" --out "$root/dist" \
        ${TESTS:+--tests "$binary/test/test.testbin"}
}

configure_wheel() {
    local flags="${library_flags#-O2 } -fvisibility-inlines-hidden -fno-gnu-unique" names="-include $prefix/include/blas_names.h"
    local cmake_options=(-DCPU_ONLY=ON) libraries=(
        "-L$prefix/lib" "-Wl,--start-group" -lopencv_imgcodecs -lopencv_imgproc -lopencv_core -lglog -lgflags
        -lhdf5_hl -lhdf5 "-Wl,--end-group" -ljpeg -lpng -ltiff -lwebp -lz -ldl -lpthread
    )
    if [ -n "$cuda" ]; then
        cmake_options=(-DCMAKE_CUDA_FLAGS="$names -Xcompiler=${flags// /,} -compress-mode=size")
        cuda_options
    fi
    # Of what was found for another Python nothing is kept.
    cmake -S "$source" -B "$binary" -G Ninja -U 'Python_*' -U 'nanobind*' -U 'NB_*' -DCMAKE_BUILD_TYPE=Release \
        -DCMAKE_MODULE_PATH="$here/wheel/cmake" -DCMAKE_PREFIX_PATH="$prefix" -DBUILD_SHARED_LIBS=OFF "${cmake_options[@]}" \
        -DBLAS=Open -DOpenBLAS_LIB="$prefix/lib/libscipy_openblas.so" -DOpenBLAS_INCLUDE_DIR="$prefix/include" \
        -DUSE_LEVELDB=OFF -DBUILD_docs=OFF -Dpython_version=3 -DPython_EXECUTABLE="$venv/bin/python" \
        -DWHEEL_PYTHON="$1" -DWHEEL_INCLUDE="$2" -DCMAKE_CXX_STANDARD_LIBRARIES="${libraries[*]}" \
        -DCMAKE_CXX_FLAGS="$flags $names" \
        -DCMAKE_MODULE_LINKER_FLAGS="-Wl,--version-script=$here/wheel/exports.map -Wl,--exclude-libs,ALL -Wl,--gc-sections"
}

# They come from the module of the Python that makes the wheels, which it can load: told before anything is compiled.
check_types() {
    local own
    own=$("$venv/bin/python" -c 'import sys; print("%d.%d" % sys.version_info[:2])')
    [ -e "$types/py.typed" ] || [ "${pythons%% *}" = "$own" ] ||
        die "type stubs come from the wheel for Python $own: build it first, PYTHONS=\"$own $pythons\""
}

# pycaffe's type stubs, from the module in folder $1/caffe, into $types.
make_types() {
    mkdir -p "$types"
    (cd "$1/caffe" && LD_LIBRARY_PATH=$prefix/lib "$venv/bin/python" -m nanobind.stubgen --quiet --include-private --import . \
        --module _caffe --pattern-file "$source/python/caffe/stubs.txt" --marker-file py.typed --output-file _caffe.pyi) ||
        die "nanobind makes no type stubs (see above)"
    mv "$1"/caffe/{_caffe.pyi,py.typed} "$types"
}
