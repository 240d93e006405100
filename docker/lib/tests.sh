# shellcheck shell=bash
# Upstream's own tests, of the Caffe that was built and of the pycaffe that was installed.

# Builds and runs them, and says how many passed; fails when one did not.
test_caffe() {
    local good=true
    "$venv/bin/python" -c 'import pydot' 2>/dev/null || die "pydot is missing in $venv: install requirements-dev.txt into it"
    command -v dot >/dev/null || die "dot is missing: run docker/setup_system.sh first (graphviz)"
    check_tools
    echo "Building upstream's tests with $jobs jobs"
    compile build-tests.log test.testbin || die "the build of the tests failed (see above)"
    run_gtest || good=false
    run_pycaffe_tests || good=false
    echo "gtest: $gtest_ok of $gtest_all passed; pycaffe: $pycaffe_ok of $pycaffe_all passed"
    $good
}

# All tests, or without a usable GPU those that need none; they look for their data from the source's root. On a GPU in
# full precision: their gradients, told from small differences, are lost in TF32's rounding.
run_gtest() {
    local log=$binary/gtest.log rc=0 filter='*'
    if ! gpu_is_usable; then
        # Neither tests named after it, nor typed ones with the types GPUDevice<float> and GPUDevice<double>, the last two.
        filter=$(cat "$here/gtest-without-gpu.txt")
    fi
    (cd "$source" && CAFFE_TF32=0 "$binary/test/test.testbin" --gtest_filter="$filter") >"$log" 2>&1 || rc=$?
    gtest_all=$(sed -n 's/^\[==========\] Running \([0-9]*\) tests.*/\1/p' "$log")
    gtest_all=${gtest_all:-0}
    gtest_ok=$(grep -c '^\[       OK \]' "$log" || true)
    grep '^\[  FAILED  \]' "$log" || true
    if [ "$rc" != 0 ] || [ "$gtest_all" = 0 ] || [ "$gtest_ok" != "$gtest_all" ]; then
        echo "gtest failed (exit status $rc): $log" >&2
        return 1
    fi
}

gpu_is_usable() {
    [ -n "$cuda" ] && "$venv/bin/python" -c 'import sys, caffe; sys.exit(caffe._caffe.gpu_problem(0) != "")'
}

# Of the pycaffe that is installed, not of the source tree; in a folder of their own, for they leave files.
run_pycaffe_tests() {
    local log=$binary/pycaffe.log rc=0 scratch=$binary/pycaffe-tests failed
    rm -rf "$scratch"
    mkdir -p "$scratch"
    (cd "$scratch" && "$venv/bin/python" -m unittest discover -v -s "$source/python/caffe/test") >"$log" 2>&1 || rc=$?
    rm -rf "$scratch"
    pycaffe_all=$(sed -n 's/^Ran \([0-9]*\) tests\? in .*/\1/p' "$log")
    failed=$(grep -cE '^(ERROR|FAIL): ' "$log" || true)
    pycaffe_ok=$((${pycaffe_all:=0} - failed))
    grep -E '^(ERROR|FAIL): ' "$log" || true
    if [ "$rc" != 0 ] || [ "$pycaffe_all" = 0 ]; then
        echo "pycaffe's tests failed (exit status $rc): $log" >&2
        return 1
    fi
}
