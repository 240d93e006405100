#!/usr/bin/env bash
# A first meeting with a GPU in eight minutes: all that tools/bench_gpu.py measures, in the order of its worth, each group with
# a time of its own. What has been measured stands in OUT/bench_gpu.json row by row, so that whoever is cut off loses only
# the rest; OUT/steps.tsv says how each ended, OUT/GROUP.log what it said.
#
#   tools/gpu_check.sh [OUT [GROUP:SECONDS...]]      (default: build/gpu-check, all groups)
#   DEVICE=cpu QUICK=1 tools/gpu_check.sh            the rehearsal: all of it in miniature, without a GPU
#
# In a checkout that is not set up it takes the first Python on the PATH, with PyTorch and NumPy, and for Caffe the wheels
# in CARRY, which are installed into OUT/own.
#
# Environment: DEVICE (0), QUICK (1: in miniature), PYTHON (.venv's, else python3), TORCH (a Python that has PyTorch), CARRY
# (build/gpu-carry: of tools/gpu_carry.py), PACK (a .tar.gz to pack the results into after each group, for machines that give
# few files back). The exit status is 0 if every group ended well and has measured something.
set -uo pipefail

root=$(dirname "$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)")
out=$(realpath -m "${1:-$root/build/gpu-check}")
carry=$(realpath -m "${CARRY:-$root/build/gpu-carry}")
python=$root/.venv/bin/python
[ -x "$python" ] || python=$(command -v python3)
python=${PYTHON:-$python}
flags=(--device "${DEVICE:-0}" --out "$out")
[ -z "${QUICK:-}" ] || flags+=(--quick)
[ -z "${TORCH:-}" ] || flags+=(--torch "$TORCH")

shift || true
steps=("$@")
# 480 seconds in all.
[ $# -gt 0 ] || steps=(first:50 gtest:90 training:50 vgg16:150 memory:25 errors:30 squeezenet:25 layers:15 sanitizer:35 crops:10)

# Wheels of CARRY into a folder of their own: the Python may be another project's. CUDA's libraries are that Python's.
install_carried() {
    local own=$out/own site cuda pip=(-m pip)
    cuda=$("$python" -c '
import importlib.util, os
spec = importlib.util.find_spec("nvidia")
places = list(spec.submodule_search_locations) if spec else []
print(next((place for place in places if os.path.isdir(place + "/cu13/lib")), ""))')
    # Some environments have no pip; every Python brings one along for them.
    "$python" -c 'import pip' 2>/dev/null || pip=("$("$python" -c '
import ensurepip, glob, os
print(glob.glob(os.path.join(os.path.dirname(ensurepip.__file__), "_bundled", "pip-*.whl"))[0] + "/pip")')")
    "$python" "${pip[@]}" install --quiet --disable-pip-version-check --no-index --no-deps --no-compile --ignore-installed \
        --prefix "$own" "$carry"/*.whl || return
    for site in "$own"/{,local/}lib/python3*/*-packages; do
        [ ! -d "$site" ] || break
    done
    export PYTHONPATH=$site${PYTHONPATH:+:$PYTHONPATH}
    [ -z "$cuda" ] || ln -sfn "$cuda" "$site/nvidia"
}

# All that was measured and said, without what was installed and trained, into one file that is whole at any time.
pack() {
    tar -czf "$PACK.part" -C "$out" --exclude=./own --exclude=./figures --exclude='*.caffemodel' --exclude='*.solverstate' . &&
        mv "$PACK.part" "$PACK"
}

mkdir -p "$out"
: >"$out/steps.tsv"
failed=0
if [ -d "$carry" ]; then
    export SELFIE_MIRROR=${SELFIE_MIRROR:-$carry}
    [ ! -f "$carry/carried.json" ] || cp "$carry/carried.json" "$out"
    [ ! -d "$carry/figures" ] || [ -d "$out/figures" ] || cp -r "$carry/figures" "$out"
    install_carried || exit
fi
for step in "${steps[@]}"; do
    group=${step%:*} seconds=${step#*:}
    begin=$SECONDS
    timeout --kill-after=5 "$seconds" "$python" "$root/tools/bench_gpu.py" "${flags[@]}" --only "$group" \
        --seconds $((seconds > 20 ? seconds - 12 : 8)) >"$out/$group.log" 2>&1
    status=$?
    lacking=$(grep -m 1 '^no measurement of\|^no upstream tests' "$out/$group.log" || true)
    case $status in
        0) said=${lacking:-good} ;;
        124 | 137) said="not done in $seconds s" ;;
        *) said="failed: $(tail -n 1 "$out/$group.log")" ;;
    esac
    [ "$said" = good ] || failed=1
    printf '%s\t%s\t%d s\n' "$group" "$said" $((SECONDS - begin)) | tee -a "$out/steps.tsv"
    [ -z "${PACK:-}" ] || pack
done
exit $failed
