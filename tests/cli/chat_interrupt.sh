# Ctrl-C stops the reply and keeps what was shown; while a message is read it takes the message back; it never ends the
# chat. SIGTERM does, and the session is saved.
need_model
source "$SOURCE/tests/cli/typing.bash"
start_typing "'$SAMBA_LM' chat --preset tiny --device cpu --ignore-eos --color off --session s.chat"
sees "/help"
keys 'Hello.\r'
sees_bytes 300
keys '\003'
sees '2004h> '
keys '/show\r'
sees "chat +2 messages"
keys 'dropped'
sees "dropped"
keys '\003'
sees '2004h> '
keys '/show\r'
sees "chat +2 messages"
yes "All work and no play makes Jack a dull boy." | head -c 3000000 >long.txt
keys '/read long.txt\r'
sees "long.txt .3.0 MB. goes before"
keys 'What is it about?\r'
sees "reading [0-9]"
keys '\003'
sees "What is it about"
keys '\003'
sees "long.txt is not read"
keys '/show\r'
sees "chat +2 messages"
keys '/set max-tokens 3\r'
keys 'Go on.\r'
sees "ended at 3 tokens"
# The program is the child of script(1), which is the child of our shell.
program=$(cat /proc/$typist/task/$typist/children)
kill -s TERM $program
end_typing
expect_status 143
start_typing "'$SAMBA_LM' chat --preset tiny --device cpu --color off --session s.chat"
sees "4 messages so far"
keys '\004'
end_typing
expect_status 0
