# What the scripts of tests/cli are made of. `lm` runs the program and keeps what it said; the expect_ functions look at
# that, say what they miss with the line of the script, and let the test fail at its end.
failures=0

# lm ARGS…: the program; its output lies in the files out and err, its exit status in $status.
lm() {
    last="samba-lm $*"
    "$SAMBA_LM" "$@" >out 2>err
    status=$?
}

# shellcheck disable=SC2034  # the tests use it
# The small random model with the shipped tokenizer: for all that does not depend on the text.
tiny=(--preset tiny --device cpu)

fail() {
    local depth=1
    while [[ ${BASH_SOURCE[$depth]} == */lib.bash ]]; do depth=$((depth + 1)); done
    printf '%s:%s: %s\n' "$(basename "${BASH_SOURCE[$depth]}")" "${BASH_LINENO[$((depth - 1))]}" "$*"
    printf '    after: %s (exit %s)\n' "${last-}" "${status-}"
    sed 's/^/    stdout: /' out 2>/dev/null | head -n 5 | cut -c1-300
    sed 's/^/    stderr: /' err 2>/dev/null | head -n 5 | cut -c1-300
    failures=$((failures + 1))
}

expect_status() { [ "$status" -eq "$1" ] || fail "expected exit $1, found $status"; }
expect_out() { grep -qE -e "$1" out || fail "expected on stdout: $1"; }
expect_no_out() { ! grep -qE -e "$1" out || fail "not expected on stdout: $1"; }
expect_err() { grep -qE -e "$1" err || fail "expected on stderr: $1"; }
expect_no_err() { ! grep -qE -e "$1" err || fail "not expected on stderr: $1"; }
expect_out_is() { [ "$(cat out; echo x)" = "$1x" ] || fail "expected exactly on stdout: $1"; }
expect_silent_err() { [ ! -s err ] || fail "expected nothing on stderr"; }
expect_file() { [ -e "$1" ] || fail "expected a file $1"; }
expect_no_file() { [ ! -e "$1" ] || fail "expected no file $1"; }
expect_same() { cmp -s "$1" "$2" || fail "expected $1 and $2 to be the same"; }
expect_equal() { [ "$1" = "$2" ] || fail "expected '$2', found '$1'"; }

# What every error looks like: this exit status, one line on stderr that matches, nothing on stdout.
expect_error() {
    [ "$status" -eq "$1" ] || fail "expected exit $1, found $status"
    [ "$(wc -l <err)" -eq 1 ] || fail "expected one line on stderr"
    grep -qE -e "^samba-lm: .*$2" err || fail "expected on stderr: $2"
    [ ! -s out ] || fail "expected nothing on stdout"
}

# json KEY [FILE]: the first value of "KEY": in lines of JSON, for strings without escapes, numbers and words.
json() { grep -oE "\"$1\":(\"[^\"]*\"|[-0-9.e+]+|null|true|false)" "${2:-out}" | head -n 1 | cut -d: -f2- | tr -d '"'; }

need_model() { [ -f "$MODEL" ] || { echo "the shipped model is missing: $MODEL"; exit 77; }; }

# In a terminal of its own (a pseudo terminal): stdout and stderr together in the file screen.
in_terminal() {
    command -v script >/dev/null || { echo "no script(1) here, which makes a terminal"; exit 77; }
    script -qec "$1" screen.raw >/dev/null 2>&1 </dev/null
    status=$?
    last=$1
    sed '1{/^Script started/d}; ${/^Script done/d}' screen.raw | tr -d '\r' >screen
}
