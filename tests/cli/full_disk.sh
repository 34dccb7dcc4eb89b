# A full disk is one line and exit 1, whoever writes.
need_model
full() {
    last="samba-lm $* >/dev/full"
    : >out
    "$SAMBA_LM" "$@" >/dev/full 2>err
    status=$?
    expect_error 1 "standard output: cannot write: No space left on device"
}
full --version
full --help
full complete --help
full complete "${tiny[@]}" x -n 3
full complete "${tiny[@]}" x -n 3 --json
full complete "${tiny[@]}" x -n 3 --jsonl-stream
full tokenize "a b c"
full inspect
full doctor
full perplexity "${tiny[@]}" -f "$SOURCE/CMakeLists.txt" --context 64
