#!/usr/bin/env bash
# The house rules that a machine can check: the arrows kernels <- models <- engine <- app, what may not be included
# where, and the length of files. usage: layering_test.sh SOURCE_ROOT
set -u
cd "$1" || exit 1
failures=0

fail() {  # fail WHAT LINES…: one paragraph for a broken rule
    printf '%s:\n%s\n\n' "$1" "$2"
    failures=$((failures + 1))
}

sources() {  # the C++ and CUDA files under these folders
    find "$@" -type f \( -name '*.cpp' -o -name '*.h' -o -name '*.cu' -o -name '*.cuh' \) 2>/dev/null
}

# no_include FOLDERS PATTERN WHY: no file under FOLDERS includes a path that matches PATTERN
no_include() {
    local found
    found=$(sources $1 | xargs -r grep -nE "^[[:space:]]*#[[:space:]]*include[[:space:]]*[<\"]($2)" /dev/null)
    [ -z "$found" ] || fail "$3" "$found"
}

no_include kernels "(models|engine|app|tests)/" "kernels knows no layer above it"
no_include models "(engine|app|tests)/" "models may include kernels and itself"
no_include engine "(app|tests)/" "engine may include models, kernels and itself"
no_include app "tests/" "the program does not include its tests"
no_include kernels "nlohmann/|spdlog/|CLI/|sentencepiece|histedit|editline/|zip\.h|libstemmer" \
    "kernels know no file, JSON, log or command line"
no_include "models engine" "spdlog/|CLI/|histedit|editline/" "the terminal and the log belong to app"
no_include "kernels models engine app tests" "(\.\./)*\.\./shared/|/.*/shared/" "nothing is taken from outside the tree"
no_include "kernels models engine app" "\.\./" "include paths start at the root"

# JSON, logging and CLI headers cost seconds of nvcc in every file, and trip it; the tests' CUDA files obey too.
cuda_json=$(sources tests | grep -E '\.(cu|cuh)$' | xargs -r grep -nE 'nlohmann/|spdlog/|CLI/' /dev/null)
[ -z "$cuda_json" ] || fail "no JSON, spdlog or CLI11 in CUDA files" "$cuda_json"

# Instruction sets are chosen at run time: intrinsics stay in the files compiled for one, and what only those include.
isa=$(sources models engine app | xargs -r grep -nE '#[[:space:]]*include[[:space:]]*<(immintrin|x86intrin|arm_neon)\.h>' /dev/null)
[ -z "$isa" ] || fail "intrinsics belong to kernels/cpu" "$isa"

long=$(find kernels models engine app tests prompts CMakeLists.txt dev .ci -type f \
           \( -name '*.cpp' -o -name '*.h' -o -name '*.cu' -o -name '*.cuh' -o -name '*.py' -o -name '*.sh' -o -name '*.cmake' \
              -o -name CMakeLists.txt -o -name dev -o -path ".ci/*" \) -exec wc -l {} + | awk '$2 != "total" && $1 > 500')
[ -z "$long" ] || fail "files over 500 lines (docs/architecture.md: split by what they do)" "$long"

[ "$(sources kernels models engine app | wc -l)" -gt 20 ] || fail "the check itself found no sources" "looked in $PWD"
[ "$failures" -eq 0 ]
