# What ends a reply: a stop text (not printed), an end token, the length.
need_model
lm complete "Once upon a time" --temp 0 -n 60 --json --stop "girl"
expect_status 0
expect_equal "$(json finish_reason)" stop
expect_equal "$(json stop)" girl
expect_no_out '"text":"[^"]*girl'
lm complete "Once upon a time" --temp 0 -n 60 --stop zzz --stop girl
expect_no_out girl
lm complete "Once upon a time" --temp 0 -n 60 --json --stop '\n\n'
expect_no_out '"text":"[^"]*\\n\\n'
lm complete --chat "What is the moon?" --temp 0 --json
expect_equal "$(json finish_reason)" stop
expect_equal "$(json stop)" null
expect_out '"text":"[A-Z]'  # without the tokenizer's first space
lm complete --chat "What is the moon?" --temp 0 -n 200 --json --ignore-eos
expect_equal "$(json finish_reason)" length
expect_equal "$(json completion_tokens)" 200
