# A chat on a terminal: replies, commands, several lines, Ctrl-C and Ctrl-D.
need_model
source "$SOURCE/tests/cli/typing.bash"
start_typing "'$SAMBA_LM' chat --preset tiny --device cpu -n 4 --ignore-eos --color off"
sees "/help lists the commands"
keys '/help\r'
sees "/regen +another reply"
keys 'Hello there.\r'
sees "ended at 4 tokens"
keys '/regen\r'
sees "ended at 4 tokens"
keys '/show\r'
sees "chat +2 messages"
keys '/nonsense\r'
sees "/nonsense: no such command"
keys '//slash\r'
sees "ended at 4 tokens"
keys '/show\r'
sees "chat +4 messages"
keys '/undo\r'
sees 'took back "/slash"'
keys 'one \\\rtwo\r'
sees "ended at 4 tokens"
keys '/edit\r'
sees "two"
keys '\003'
sees "not edited"
keys '"""\rthree\r\rfour"""\r'
sees "ended at 4 tokens"
keys '/edit\r'
sees "three"
keys ' five\r'
sees "ended at 4 tokens"
keys '/undo\r'
sees 'took back "three…"'
keys '/clear\r/show\r'
sees "chat +0 messages"
keys '/undo\r'
sees "took back the last /clear or /system"
keys '/system Be brief.\r/show\r'
sees "system +Be brief"
keys '/undo\r/undo\r/undo\r/undo\r'
sees "nothing to take back"
# Sampling options only; a mistake leaves everything as it was.
keys '/set temp 0\r/set session x\r'
sees "no sampling option"
keys '/set temp cold\r'
sees "expected a number"
keys '/show\r'
sees "temp 0.00"
keys 'Hi.\r'
sees "ended at 4 tokens"
keys '/regen\r'
sees "at temperature 0 the reply is the same"
keys '/stats\r'
sees "snapshots [0-9]"
keys '/read none.txt\r'
sees "none.txt"
keys '/exit\r'
end_typing
expect_status 0
# Pasted text is one message, whatever lines it has; history has it all.
start_typing "'$SAMBA_LM' chat --preset tiny --device cpu -n 4 --ignore-eos --color off"
sees "/help"
keys '\033[200~first line\rsecond line\n/exit\033[201~'
sees "/exit"
keys '\r'
sees "ended at 4 tokens"
keys '/show\r'
sees "chat +2 messages"
keys '\004'
end_typing
expect_status 0
expect_equal "$(stat -c %a samba-lm/history)" 600
grep -qxF 'first line\nsecond line\n/exit' samba-lm/history || fail "the paste is in the history"
grep -qxF 'Hello there.' samba-lm/history || fail "the first chat is in the history"
start_typing "'$SAMBA_LM' chat --preset tiny --device cpu -n 4 --ignore-eos --no-history --color off"
sees "/help"
keys 'secret\r'
sees "ended at"
keys '/bye\r'
end_typing
! grep -q secret samba-lm/history || fail "--no-history"
