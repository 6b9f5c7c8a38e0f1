#!/bin/sh
# SPDX-License-Identifier: MIT
# From nothing to a running polymac, on Debian 12 or newer:
#
#   sh cmake/get-started.sh demo     installs what is missing, builds into build/release, runs the main example
#   sh cmake/get-started.sh test     the same, then runs all tests
#   sh cmake/get-started.sh bench    the same, then runs all benchmarks and compares with other libraries (some minutes);
#                                    further words go to CMake, e.g. -DPOLYMAC_MKL_ROOT=<folder> (bench/README.md)
#
# What it installs comes from Debian's packages, and it says so first. Root is needed only if something is missing.
# On other systems nothing is installed; CMake fetches the libraries that are not there.
# POLYMAC_JOBS=n limits the parallel compiler runs (default: the number of processors).
set -eu

say() { printf '\n== polymac: %s\n' "$*"; }
fail() {
  printf '\npolymac: %s\n' "$*" >&2
  exit 1
}

usage="use: sh cmake/get-started.sh demo|test|bench"
[ $# -ge 1 ] || fail "$usage"
command=$1
shift
case $command in
  demo | test | bench) ;;
  *) fail "unknown command '$command'; $usage" ;;
esac

here=$(CDPATH='' cd -- "$(dirname -- "$0")" && pwd)
root=$(dirname -- "$here")
build=$root/build/release
cd -- "$root"

# ---- 1. what is missing --------------------------------------------------------------------------------------------
# Asked of the machine itself, not of its package list: a compiler or header from elsewhere is as good.
has_command() { command -v "$1" >/dev/null 2>&1; }
has_header() {
  printf '#include <%s>\n' "$1" | "${CXX:-c++}" -std=c++20 -I/usr/include/eigen3 -E -x c++ - >/dev/null 2>&1
}

missing='' # needed to go on at all
wanted=''  # CMake can fetch it, or a test is skipped without it
find_missing() {
  missing=''
  wanted=''
  has_command "${CXX:-c++}" || missing="$missing g++"
  has_command cmake || missing="$missing cmake"
  has_command ninja || has_command make || missing="$missing make"
  has_header Eigen/Core || wanted="$wanted libeigen3-dev"
  has_header xsimd/xsimd.hpp || wanted="$wanted libxsimd-dev"
  has_header flatbuffers/flatbuffers.h || wanted="$wanted libflatbuffers-dev"
  has_header catch2/catch.hpp || has_header catch2/catch_test_macros.hpp || wanted="$wanted catch2"
  has_header benchmark/benchmark.h || wanted="$wanted libbenchmark-dev"
  if [ "$command" != demo ]; then
    has_header sodium.h || wanted="$wanted libsodium-dev"
  fi
  if [ "$command" = test ]; then
    has_command pkg-config || wanted="$wanted pkg-config"
    if [ "$(uname -m)" != aarch64 ]; then
      has_command aarch64-linux-gnu-g++ || wanted="$wanted g++-aarch64-linux-gnu"
      has_command qemu-aarch64 || wanted="$wanted qemu-user"
    fi
  fi
  if [ "$command" = bench ]; then
    has_command python3 || missing="$missing python3"
    has_header dnnl.hpp || wanted="$wanted libdnnl-dev"
    has_header cblas.h || wanted="$wanted libopenblas-dev"
    has_header xnnpack.h || wanted="$wanted libxnnpack-dev libpthreadpool-dev"
  fi
}

say "1/3 looking for what polymac is built with"
find_missing
packages="$missing$wanted"
if [ -z "$packages" ]; then
  echo "nothing is missing"
elif ! has_command apt-get; then
  [ -z "$missing" ] || fail "this is no Debian, and there is no$missing: please install it and call again"
  echo "not installed:$wanted (names of Debian). This is no Debian, so CMake will fetch what it needs."
else
  as_root=''
  if [ "$(id -u)" -ne 0 ]; then
    if has_command sudo && { sudo -n true 2>/dev/null || [ -t 0 ]; }; then
      as_root=sudo
    else
      as_root=none
    fi
  fi
  install="apt-get install --yes --no-install-recommends$packages"
  if [ "$as_root" = none ]; then
    [ -z "$missing" ] || fail "there is no$missing, and only root can install it. Ask root for:  $install"
    echo "not installed:$wanted"
    echo "Only root can install that (by: $install). Going on without: CMake will fetch what it needs."
  else
    echo "Debian packages to be installed now:$packages"
    echo "> $as_root apt-get update && $as_root $install"
    $as_root apt-get update
    # The packages are words of one string.
    # shellcheck disable=SC2086
    $as_root env DEBIAN_FRONTEND="${DEBIAN_FRONTEND:-noninteractive}" $install
    find_missing
    [ -z "$missing" ] || fail "still not there after the installation:$missing"
  fi
fi

# ---- 2. build ------------------------------------------------------------------------------------------------------
jobs=${POLYMAC_JOBS:-$(getconf _NPROCESSORS_ONLN 2>/dev/null || echo 1)}
if has_command ninja && [ -z "${CMAKE_GENERATOR:-}" ]; then
  CMAKE_GENERATOR=Ninja
  export CMAKE_GENERATOR
fi

say "2/3 building the preset 'release' into build/release ($jobs at a time)"
# What was not asked for is left out, if nobody has asked for it before.
fresh=''
[ -f "$build/CMakeCache.txt" ] || fresh=yes
case $command in
  test) set -- -DPOLYMAC_BUILD_TESTS=ON -DPOLYMAC_BUILD_BENCH=ON ;;
  bench) set -- -DPOLYMAC_BUILD_BENCH=ON ${fresh:+-DPOLYMAC_BUILD_TESTS=OFF} "$@" ;;
  *) set -- ${fresh:+-DPOLYMAC_BUILD_TESTS=OFF} ${fresh:+-DPOLYMAC_BUILD_BENCH=OFF} ;;
esac
cmake --preset release "$@" ||
  fail "configuring failed; see above${wanted:+ (not installed:$wanted)}"
case $command in
  demo) set -- --target mlperf_tiny ;;
  bench) set -- --target bench ;;
  *) set -- ;;
esac
cmake --build "$build" --parallel "$jobs" "$@" || fail "the build failed; see above"

# ---- 3. run --------------------------------------------------------------------------------------------------------
run_demo() {
  say "3/3 running the main example: build/release/examples/mlperf_tiny"
  "$build/examples/mlperf_tiny" || fail "the demo FAILED (exit code $?)"
  printf '\npolymac: demo finished\n'
}

run_tests() {
  say "3/3 running the tests"
  log=$build/ctest.log
  code=0
  ctest --test-dir "$build" --output-on-failure --no-tests=error --parallel "$jobs" --output-log "$log" || code=$?
  total=$(sed -n 's/.* tests failed out of \([0-9][0-9]*\).*/\1/p' "$log" | tail -n 1)
  failed=$(sed -n 's/.*, \([0-9][0-9]*\) tests failed out of .*/\1/p' "$log" | tail -n 1)
  skipped=$(grep -c '\*\*\*Skipped' "$log" || true)
  [ "$code" -eq 0 ] || fail "tests FAILED (${failed:-?} of ${total:-?}; ctest's exit code $code; see build/release/ctest.log)"
  printf '\npolymac: all tests passed (%s run, %s skipped)\n' "$((total - skipped))" "$skipped"
}

# Each program on one core, the last one, since systems like the first; those about threads choose their cores
# themselves. Repetitions in random order, so that a slow moment of the machine meets everybody.
run_benchmarks() {
  results=$build/bench/results
  mkdir -p "$results"
  pin=''
  has_command taskset && pin="taskset -c $(($(getconf _NPROCESSORS_ONLN) - 1))"
  # OpenBLAS before 0.3.29 does not know Zen 5 and takes its AVX2 kernels there.
  if grep -q AuthenticAMD /proc/cpuinfo 2>/dev/null && grep -q avx512_bf16 /proc/cpuinfo; then
    OPENBLAS_CORETYPE=${OPENBLAS_CORETYPE:-SkylakeX}
    export OPENBLAS_CORETYPE
  fi
  set --
  for program in "$build"/bench/*_bench; do
    name=$(basename -- "$program")
    say "3/3 running $name"
    on=$pin
    [ "$name" != threads_bench ] || on=''
    # The words of $on are a command.
    # shellcheck disable=SC2086
    $on "$program" --benchmark_min_time=0.02 --benchmark_repetitions=5 --benchmark_enable_random_interleaving=true \
      --benchmark_out="$results/$name.json" --benchmark_out_format=json >"$results/$name.log" 2>&1 ||
      fail "$name FAILED (exit code $?); see $results/$name.log"
    set -- "$@" "$results/$name.json"
  done
  python3 bench/compare.py "$@" --markdown "$results/table.md" --summary "$results/summary.md" \
    --svg "$results/roofline.svg" --json "$results/all.json" || fail "the comparison failed; see above"
  printf '\npolymac: benchmarks finished; tables and picture are in %s\n' "$results"
}

case $command in
  demo) run_demo ;;
  test) run_tests ;;
  bench) run_benchmarks ;;
esac
