# Wrong usage: exit 2, one line that says what was expected and found.
lm nothing
expect_error 2 "no command 'nothing'"
lm -m model.gguf complete x
expect_error 2 "expected a command, found '-m'"
lm complete --wrong x
expect_error 2 "unknown option --wrong; see samba-lm complete --help"
lm complete one two
expect_error 2 "one argument too many: 'two'"
lm complete x --temp
expect_error 2 "--temp: a value is missing"
lm quantize only.gguf
expect_error 2 "OUTPUT is required"
lm complete x --json --jsonl-stream
expect_error 2 "contradict"
lm complete x --verbose --quiet
expect_error 2 "contradict"
lm complete x --json=maybe
expect_error 2 "--json = maybe: expected true or false"
lm complete x --color=blue
expect_error 2 "--color: expected auto\|on\|off, found 'blue'"
lm complete x --logprobs 3
expect_error 2 "--logprobs needs --json"
