#!/usr/bin/env bash
# Builds the CUDA backend on a machine with a GPU, tests it and measures it.
#   tests/cuda/device_run.sh [PHASE…]      phases: build test goldens sanitize ops bench (all, in this order)
# Logs go to $OUT (default: ./device_out); the last lines are a short table. Debian packages in .debs/ are unpacked beside
# the system and used for the build; programs in .device/ (test_cuda, bench_cuda, and the shared libraries that they need),
# built elsewhere for this machine's GPU, save the build where they start. Every phase has a time limit of its own, so that one cannot eat another's time.
# $MODELS: "PRESET:TYPE …" for bench, $BUILD: the build folder.
set -u
cd "$(dirname "$0")/../.." || exit 1
OUT=${OUT:-$PWD/device_out}
BUILD=${BUILD:-/tmp/build-cuda}
mkdir -p "$OUT" "$BUILD"
phases=${*:-build test goldens sanitize ops bench}
export PATH=$PATH:/usr/local/cuda/bin
started=$(date +%s)
: > "$OUT/summary.txt"

note() { echo "$*" | tee -a "$OUT/summary.txt"; }
elapsed() { echo $(($(date +%s) - started)); }

# Runs a command with a limit and a log; notes how it ended and the last line that says something.
limited() { # name, seconds, command…
    local name=$1 seconds=$2 begin rc
    shift 2
    begin=$(date +%s)
    timeout -k 5 "$seconds" "$@" > "$OUT/$name.log" 2>&1
    rc=$?
    note "$name: rc $rc, $(($(date +%s) - begin)) s, $(grep -E '[a-z]' "$OUT/$name.log" | tail -1 | cut -c1-150)"
    return $rc
}

unpack_debs() {
    local root=/tmp/debs deb
    compgen -G '.debs/*.deb' > /dev/null || return 0
    mkdir -p $root
    for deb in .debs/*.deb; do dpkg -x "$deb" $root; done
    export CMAKE_PREFIX_PATH=$root/usr PATH=$root/usr/bin:$PATH
    export PKG_CONFIG_SYSROOT_DIR=$root
    export PKG_CONFIG_PATH=$root/usr/lib/x86_64-linux-gnu/pkgconfig:$root/usr/share/pkgconfig
    export LD_LIBRARY_PATH=$root/usr/lib/x86_64-linux-gnu:$root/lib/x86_64-linux-gnu:${LD_LIBRARY_PATH:-}
    export LIBRARY_PATH=$root/usr/lib/x86_64-linux-gnu CPATH=$root/usr/include
}

bin=$BUILD/tests

build() {
    if [ -x .device/test_cuda ] && LD_LIBRARY_PATH=$PWD/.device:${LD_LIBRARY_PATH:-} .device/test_cuda --list-tags \
        > "$OUT/prebuilt.log" 2>&1; then
        bin=$PWD/.device
        export LD_LIBRARY_PATH=$PWD/.device:${LD_LIBRARY_PATH:-}
        note "build: .device is used"
        return 0
    fi
    cmake -S . -B "$BUILD" -G Ninja -DCMAKE_BUILD_TYPE=Release -DSAMBA_CUDA=ON > "$OUT/configure.log" 2>&1 ||
        { tail -20 "$OUT/configure.log"; return 1; }
    limited build 280 ninja -C "$BUILD" test_cuda bench_cuda samba-lm ||
        limited build_tests 200 ninja -C "$BUILD" test_cuda bench_cuda || { grep -m5 -E 'error' "$OUT"/build*.log; return 1; }
}

run_tests() { limited test 150 "$bin/test_cuda" '~[goldens]'; }
goldens() { limited goldens 120 "$bin/test_cuda" '[goldens]'; }

# The op tests under each tool, side by side.
sanitize() {
    local tool
    for tool in memcheck racecheck initcheck; do
        limited "sanitize_$tool" 170 compute-sanitizer --tool $tool --error-exitcode 9 "$bin/test_cuda" '[op]' &
    done
    wait
}

ops() {
    local model
    for model in ${MODELS_OPS:-samba-421m:bf16 samba-3.8b:bf16 samba-421m:q4_k}; do
        limited "ops_${model/:/_}" 60 "$bin/bench_cuda" ops "${model%:*}" "${model#*:}"
        cat "$OUT/ops_${model/:/_}.log"
    done
}

bench() {
    local model name
    for model in ${MODELS:-samba-421m:bf16 samba-421m:q8_0 samba-421m:q4_k samba-1.7b:bf16 samba-3.8b:bf16}; do
        name=bench_${model/:/_}
        limited "$name" 90 "$bin/bench_cuda" model "${model%:*}" "${model#*:}" decode=1,16,64 prefill=131072
        cat "$OUT/$name.log"
    done
}

unpack_debs
nvidia-smi --query-gpu=name,memory.total,driver_version --format=csv,noheader | tee "$OUT/gpu.txt"
for phase in $phases; do
    echo "== $phase, after $(elapsed) s"
    case $phase in
        build) build || exit 1 ;;
        test) run_tests; grep -A12 'FAILED' "$OUT/test.log" | head -60 ;;
        goldens) goldens; grep -A6 'FAILED' "$OUT/goldens.log" | head -30 ;;
        sanitize) sanitize; grep -h -m5 'ERROR SUMMARY\|=========     at\|Invalid\|hazard\|Uninitialized' "$OUT"/sanitize_*.log | head -30 ;;
        ops) ops ;;
        bench) bench ;;
        *) echo "no phase $phase" ;;
    esac
done
echo "== summary, after $(elapsed) s"
cat "$OUT/summary.txt"
