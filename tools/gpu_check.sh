#!/usr/bin/env bash
# A first meeting with a GPU in eight minutes: all that tools/bench_gpu.py measures, in the order of its worth, each group with
# a time of its own. What has been measured stands in OUT/bench_gpu.json as soon as its group ends, so that whoever is cut
# off loses only the rest; OUT/steps.tsv says how each ended, OUT/GROUP.log what it said.
#
#   tools/gpu_check.sh [OUT [GROUP:SECONDS...]]      (default: build/gpu-check, all groups)
#   DEVICE=cpu QUICK=1 tools/gpu_check.sh            the rehearsal: all of it in miniature, without a GPU
#
# Environment: DEVICE (0), QUICK (1: in miniature), PYTHON (.venv's), TORCH (a Python that has PyTorch). The exit status is 0
# if every group ended well.
set -uo pipefail

root=$(dirname "$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)")
out=$(realpath -m "${1:-$root/build/gpu-check}")
python=${PYTHON:-$root/.venv/bin/python}
flags=(--device "${DEVICE:-0}" --out "$out")
[ -z "${QUICK:-}" ] || flags+=(--quick)
[ -z "${TORCH:-}" ] || flags+=(--torch "$TORCH")

shift || true
steps=("$@")
# 480 seconds in all.
[ $# -gt 0 ] || steps=(first:40 gtest:120 training:60 vgg16:150 crops:30 memory:40 errors:20 layers:20)

mkdir -p "$out"
: >"$out/steps.tsv"
failed=0
for step in "${steps[@]}"; do
    group=${step%:*} seconds=${step#*:}
    begin=$SECONDS
    timeout --kill-after=5 "$seconds" "$python" "$root/tools/bench_gpu.py" "${flags[@]}" --only "$group" >"$out/$group.log" 2>&1
    status=$?
    case $status in
        0) said=good ;;
        124 | 137) said="not done in $seconds s" ;;
        *) said="failed: $(tail -n 1 "$out/$group.log")" ;;
    esac
    [ $status = 0 ] || failed=1
    printf '%s\t%s\t%d s\n' "$group" "$said" $((SECONDS - begin)) | tee -a "$out/steps.tsv"
done
exit $failed
