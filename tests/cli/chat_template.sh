# complete --chat: the file's template, a named one, one from a file; without any, exit 2.
need_model
lm complete --chat "What is the moon?" --temp 0 --json
expect_equal "$(json prompt_tokens)" 9
lm complete --template samba "What is the moon?" --temp 0 --json
expect_equal "$(json prompt_tokens)" 9
lm complete --system "Be brief." "What is the moon?" --temp 0 --json
expect_status 0
[ "$(json prompt_tokens)" -gt 9 ] || fail "the system prompt is read"
plain=$(json text)
echo -n "Be brief." >system.txt
lm complete --system @system.txt "What is the moon?" --temp 0 --json
expect_equal "$(json text)" "$plain"
lm complete --chat --template none x
expect_error 2 "unknown chat template"
lm complete --chat --template ./none.json x
expect_error 1 "none.json"
