# Without a prompt there is nothing to do; an empty one starts from the begin token.
need_model
lm complete "${tiny[@]}"
expect_error 2 "no prompt: standard input is empty"
lm complete "${tiny[@]}" < <(:)
expect_error 2 "no prompt: standard input is empty"
lm complete "${tiny[@]}" --no-stdin <"$MODEL"
expect_error 2 "no prompt: give a text"
lm complete "${tiny[@]}" --no-stdin -f - <"$MODEL"
expect_error 2 "contradict"
lm complete "${tiny[@]}" -f nothing.txt
expect_error 1 "nothing.txt: cannot be read: No such file"
lm complete "${tiny[@]}" -f .
expect_error 1 "\.: cannot be read: Is a directory"

lm complete "${tiny[@]}" "" -n 3 --json
expect_status 0
expect_equal "$(json prompt_tokens)" 1
expect_equal "$(json completion_tokens)" 3
in_terminal "'$SAMBA_LM' complete --preset tiny </dev/tty"
expect_equal "$status" 2
grep -q "no prompt: give a text" screen || fail "a terminal is no prompt"
