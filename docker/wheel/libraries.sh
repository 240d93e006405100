# shellcheck shell=bash
# The libraries inside the wheels of build_wheels.sh, each made once into $prefix: static, position-independent, hidden.

library_flags="-O2 -fPIC -fvisibility=hidden -ffunction-sections -fdata-sections"

# All that can be compiled is; OpenBLAS and oneDNN, which take an hour, come as their makers built them.
build_libraries() {
    local name _
    mkdir -p "$work"/{done,downloads,logs,src} "$prefix"/{bin,include,lib} "$licenses"
    while read -r name _; do
        build_library "$name"
    done < <(sed '/^#/d' "$here/wheel/sources.txt")
    fetch_binaries
}

# Build library $1 unless it was by the same recipe. What a compiler says is in logs/.
build_library() {
    local name=$1 recipe
    recipe=$(grep "^$name " "$here/wheel/sources.txt" && echo "$library_flags" && declare -f "library_$name" configure_library cmake_library)
    if [ -f "$work/done/$name" ] && [ "$(cat "$work/done/$name")" = "$recipe" ]; then return; fi
    echo "Building $name"
    fetch_library "$name"
    rm -rf "$work/src/$name"
    unpack "$work/downloads/$name.tar" "$work/src/$name" || die "the archive of $name is damaged"
    (cd "$work/src/$name" && "library_$name") >"$work/logs/$name.log" 2>&1 ||
        { tail -n 20 "$work/logs/$name.log" >&2 && die "$name could not be built: $work/logs/$name.log"; }
    note_license "$name" "$work/src/$name"
    rm -rf "$work/src/$name"
    echo "$recipe" >"$work/done/$name"
}

# The tarball of library $1 as downloads/$1.tar: out of SOURCES where that has it, else through apt. It is the pinned one.
fetch_library() {
    local name=$1 release package file hash folder=$work/downloads/apt target=$work/downloads/$1.tar
    read -r _ release package file hash < <(grep "^$name " "$here/wheel/sources.txt")
    if echo "$hash  $target" | sha256sum --check --status 2>/dev/null; then return; fi
    if [ -f "${SOURCES:-}/$file" ]; then
        cp "$SOURCES/$file" "$target"
    else
        apt_fetch "$folder" deb-src "$release main" source --download-only "$package" || die "$apt_problem"
        mv "$folder/$file" "$target" || die "apt has another version of $package: $(ls "$folder")"
        rm -rf "$folder"
    fi
    echo "$hash  $target" | sha256sum --check --status || die "$file is not the pinned one (its sha256 differs)"
}

# Keep the licence of library $1, found in folder $2.
note_license() {
    local file
    file=$(find "$2" -maxdepth 3 -type f \( -iname 'LICENSE*' -o -iname 'COPYING*' \) | awk '{ print gsub("/", "/"), $0 }' |
        sort -n | head -n 1 | cut -d ' ' -f 2-)
    [ -n "$file" ] || die "$1 comes without a licence"
    cp "$file" "$licenses/$1.txt"
}

# Configure the source in this folder by CMake, with options $@.
configure_library() {
    cmake -S . -B build-static -G Ninja -DCMAKE_BUILD_TYPE=Release -DCMAKE_INSTALL_PREFIX="$prefix" -DCMAKE_INSTALL_LIBDIR=lib \
        -DCMAKE_PREFIX_PATH="$prefix" -DBUILD_SHARED_LIBS=OFF -DBUILD_TESTING=OFF -DCMAKE_C_FLAGS="$library_flags" \
        -DCMAKE_CXX_FLAGS="$library_flags -fvisibility-inlines-hidden -fno-gnu-unique" "$@"
}

# And install it.
cmake_library() {
    configure_library "$@" && ninja -C build-static -j "$jobs" install
}

library_gflags() {
    cmake_library -DREGISTER_INSTALL_PREFIX=OFF -DBUILD_gflags_nothreads_LIB=OFF
}

# Lines of the log begin with I0210. Caffe itself says so, too (patch 0065), but in a static library before glog is ready.
library_glog() {
    sed -i 's/GLOG_DEFINE_bool(log_year_in_prefix, true,/GLOG_DEFINE_bool(log_year_in_prefix, false,/' src/logging.cc
    cmake_library -DWITH_UNWIND=OFF -DWITH_GTEST=OFF -DGFLAGS_NOTHREADS=OFF -DGFLAGS_SHARED=OFF
}

# As Debian's, it may be called by several threads. By its own configure: its CMake files fail with CMake 3.18.
library_hdf5() {
    ./configure --prefix="$prefix" --disable-shared --with-pic --enable-hl --enable-threadsafe --enable-unsupported \
        --with-zlib --with-szlib=no CFLAGS="$library_flags" &&
        make -C src -j "$jobs" install && make -C hl/src -j "$jobs" install
}

library_lmdb() {
    local folder
    folder=$(dirname "$(find . -name mdb.c)")
    make -C "$folder" liblmdb.a XCFLAGS="$library_flags" && cp "$folder/liblmdb.a" "$prefix/lib" &&
        cp "$folder/lmdb.h" "$prefix/include"
}

# What reads and writes pictures and resizes them, with Debian's libraries for JPEG, PNG, TIFF and WebP. For any CPU that oneDNN
# is for, without code for newer ones beside it: that is little of what Caffe does. Of imgproc only sizes and colours.
library_opencv() {
    local option off=()
    find modules/imgproc/src -name '*.cpp' -not -name 'color*' -not -name demosaicing.cpp -not -name main.cpp \
        -not -name 'resize*' -not -name tables.cpp -delete
    for option in 1394 ADE EIGEN FFMPEG GDAL GDCM GSTREAMER GTK IMGCODEC_HDR IMGCODEC_SUNRASTER IPP ITT JASPER LAPACK \
        OPENCL OPENEXR OPENJPEG PROTOBUF QUIRC TBB V4L VA VTK; do
        off+=("-DWITH_$option=OFF")
    done
    cmake_library -DBUILD_LIST=core,imgproc,imgcodecs "${off[@]}" -DBUILD_PERF_TESTS=OFF -DBUILD_TESTS=OFF -DBUILD_opencv_apps=OFF \
        -DBUILD_JAVA=OFF -DBUILD_opencv_python3=OFF -DWITH_JPEG=ON -DWITH_PNG=ON -DWITH_TIFF=ON -DWITH_WEBP=ON \
        -DCPU_BASELINE=SSE4_2 -DCPU_DISPATCH= -DOPENCV_GENERATE_PKGCONFIG=OFF
}

# The library, and a protoc for C++ and Python: the other languages would take half of the time.
library_protobuf() {
    sed -i -E '/compiler\/(csharp|java|objectivec|php|ruby)\//d' cmake/libprotoc.cmake
    cat >src/google/protobuf/compiler/main.cc <<'MAIN'
#include <google/protobuf/compiler/command_line_interface.h>
#include <google/protobuf/compiler/cpp/generator.h>
#include <google/protobuf/compiler/python/generator.h>

int main(int argc, char** argv) {
  google::protobuf::compiler::CommandLineInterface interface;
  google::protobuf::compiler::cpp::CppGenerator cpp;
  google::protobuf::compiler::python::Generator python;
  interface.RegisterGenerator("--cpp_out", &cpp, "C++");
  interface.RegisterGenerator("--python_out", &python, "Python");
  return interface.Run(argc, argv);
}
MAIN
    configure_library -Dprotobuf_BUILD_TESTS=OFF -Dprotobuf_WITH_ZLIB=OFF &&
        ninja -C build-static -j "$jobs" libprotobuf protoc &&
        cp build-static/libprotobuf.a "$prefix/lib" && cp build-static/protoc "$prefix/bin" &&
        (cd src && find google \( -name '*.h' -o -name '*.inc' -o -name '*.proto' \) -print0 | xargs -0 cp --parents -t "$prefix/include")
}

# OpenBLAS and oneDNN. The names of OpenBLAS's functions begin with scipy_ there, which a header makes up for.
fetch_binaries() {
    local folder=$work/src/binaries file
    if [ -f "$work/done/binaries" ] && cmp -s "$work/done/binaries" "$here/wheel/binaries.txt"; then return; fi
    echo "Fetching OpenBLAS and oneDNN"
    rm -rf "$folder"
    "$venv/bin/python" -m pip download --quiet --disable-pip-version-check --no-deps --only-binary :all: --require-hashes \
        --dest "$folder" -r "$here/wheel/binaries.txt" || die "pip could not fetch OpenBLAS and oneDNN (see above)"
    for file in "$folder"/*.whl; do
        "$venv/bin/python" -m zipfile -e "$file" "$folder"
    done
    cp -r "$folder"/scipy_openblas32/include/. "$folder"/onednn_*.data/data/include/. "$prefix/include"
    cp "$folder"/scipy_openblas32/lib/libscipy_openblas.so "$folder"/onednn_*.data/data/lib/libdnnl.so "$prefix/lib"
    # Linked by the name that it gives itself.
    ln -sf libdnnl.so "$prefix/lib/$(objdump -p "$prefix/lib/libdnnl.so" | sed -n 's/^ *SONAME *//p')"
    grep -oE '\bscipy_(cblas|openblas|goto)_[a-z0-9_]+' "$prefix/include/cblas.h" | sort -u |
        sed 's/scipy_\(.*\)/#define \1 scipy_\1/' >"$prefix/include/blas_names.h"
    cp "$folder"/scipy_openblas32-*.dist-info/licenses/LICENSE.txt "$licenses/scipy_openblas.txt"
    cat "$folder"/onednn_cpu_gomp-*.data/data/share/doc/onednn/{LICENSE,THIRD-PARTY-PROGRAMS} >"$licenses/dnnl.txt"
    rm -rf "$folder"
    cp "$here/wheel/binaries.txt" "$work/done/binaries"
}
