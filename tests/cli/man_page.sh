# The man page is made from the help: every command, every option, and troff takes it.
"$SOURCE/app/make_man_page" "$SAMBA_LM" >samba-lm.1
status=$? last=make_man_page
expect_status 0
for command in $("$SAMBA_LM" --help | sed -n '/^Commands:$/,/^$/s/^  \([a-z]*\) .*/\1/p'); do
    grep -qi "^\.SH \"SAMBA.-LM $command\"$" samba-lm.1 || fail "a section for $command"
done
grep -qF '.B \-n, \-\-max\-tokens N' samba-lm.1 || fail "options as tagged paragraphs"
if command -v groff >/dev/null; then
    groff -k -man -Tutf8 -ww samba-lm.1 >page 2>warnings
    [ ! -s warnings ] || fail "troff warns: $(head -n 1 warnings)"
fi
