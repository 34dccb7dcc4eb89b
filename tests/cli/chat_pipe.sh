# Standard input that is no terminal is one message: chat answers it and leaves.
need_model
ask() { printf "$1" | "$SAMBA_LM" chat "${@:2}" >out 2>err; status=$?; last="chat ${*:2} <<<$1"; }
ask 'What is the capital of Germany?\n' --temp 0
expect_status 0
expect_out "Berlin"
expect_silent_err
cp out first
lm complete --chat --temp 0 "What is the capital of Germany?"
echo >>out  # a line of its own
expect_same out first
ask '' "${tiny[@]}"
expect_error 2 "no message: standard input is empty"
ask '/help\n' "${tiny[@]}" -n 3
expect_status 0
expect_no_out "another reply"
ask 'x\xffy' "${tiny[@]}" -n 3
expect_err "1 bytes are not valid UTF-8"
ask 'hi' "${tiny[@]}" -n 3 --plain --snapshots 1X
expect_error 2 "--snapshots"
ask 'hi' "${tiny[@]}" -n 3 --template none
expect_error 2 "none"
"$SAMBA_LM" chat "${tiny[@]}" -n -1 --ignore-eos <<<hi 2>err | head -c 20 >out
expect_equal "${PIPESTATUS[0]}" 0
