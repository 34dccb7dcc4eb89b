# The log: private, without text unless --verbose; --quiet says nothing but errors.
need_model
lm complete "${tiny[@]}" "a secret prompt" -n 2 --log-file log
expect_status 0
expect_silent_err
expect_equal "$(stat -c %a log)" 600
! grep -q secret log || fail "no prompt text in the log"
lm complete "${tiny[@]}" x -n 2 --verbose --log-file log
expect_err "^samba-lm: loaded in "
grep -qE '^[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9:.+-]+ debug loaded in ' log || fail "time, level, message"
printf 'a\xffb' >odd
lm complete "${tiny[@]}" -f odd -n 1 --quiet
expect_status 0
expect_silent_err
lm complete "${tiny[@]}" -f none --quiet
expect_error 1 "none"
lm complete x --log-file no/such/log
expect_error 1 "--log-file no/such/log: cannot be opened"
