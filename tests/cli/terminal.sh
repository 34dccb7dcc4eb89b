# On a terminal: control characters are shown, not obeyed; colours can be had or not; the prompt comes back on a line of
# its own.
need_model
esc=$'\x1b'
name="evil${esc}[2Jname"
in_terminal "'$SAMBA_LM' complete --preset tiny -f '$name'"
grep -qF 'evil\x1b[2Jname: cannot be read' screen || fail "the file's name is escaped"
grep -qF "${esc}[31m" screen || fail "errors are red"
in_terminal "NO_COLOR=1 '$SAMBA_LM' complete --preset tiny -f none"
! grep -qF "$esc" screen || fail "NO_COLOR"
in_terminal "TERM=dumb '$SAMBA_LM' complete --preset tiny -f none"
! grep -qF "$esc" screen || fail "TERM=dumb"
in_terminal "NO_COLOR=1 '$SAMBA_LM' complete --preset tiny -f none --color on"
grep -qF "${esc}[31m" screen || fail "--color on"
lm complete -f none --color on
expect_err "${esc}\[31m"
in_terminal "'$SAMBA_LM' complete --preset tiny -n 0 --echo '$name'"
expect_equal "$(cat screen)" 'evil\x1b[2Jname'
lm complete "${tiny[@]}" -n 0 --echo "$name"
expect_out_is "$name"
