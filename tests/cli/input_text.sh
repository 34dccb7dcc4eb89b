# Text is made valid on its way in, and what was replaced is told once.
need_model
prompt() { lm complete "${tiny[@]}" -n 0 --echo "$@"; expect_status 0; }
printf '\xef\xbb\xbfwith a mark\r\nand returns\r\n' >dos
prompt -f dos
expect_out_is $'with a mark\nand returns'
expect_silent_err
printf 'a\xffb\xfec\xe2\x96\x81d' >odd
prompt -f odd
expect_out_is $'a\xef\xbf\xbdb\xef\xbf\xbdc d'
expect_equal "$(wc -l <err)" 2
expect_err "^samba-lm: odd: 2 bytes are not valid UTF-8"
expect_err "^samba-lm: odd: 1 characters U\+2581 became spaces"
printf '\xff\xfea\0b\0' >wide
lm complete "${tiny[@]}" -n 0 --echo -f wide
expect_error 1 "wide: .*UTF-16.*iconv"
printf 'nul\0stays' >nul
prompt -f nul
cmp -s nul out || fail "NUL is kept"
LC_ALL=C prompt $'na\xc3\xafve'
expect_out_is "naïve"
