# Full attention has an end, --max-context: a reply ends there and says so, more to read than fits is an error.
need_model
sed 's/"window": 64/"window": 0/' "$SOURCE/models/presets/tiny.json" >full.json
full=(--preset ./full.json --device cpu --max-context 20)
lm complete "${full[@]}" "Hello there" --ignore-eos --json
expect_status 0
expect_equal "$(json finish_reason)" length
expect_equal "$(($(json prompt_tokens) + $(json completion_tokens)))" 21  # the last one was never read
expect_err "^samba-lm: the context is full: full attention takes 20 tokens \(--max-context\)$"
lm complete "${full[@]}" "$(seq 30)"
expect_error 1 "the context of full attention is full: .*--max-context allows 20"
lm perplexity "${full[@]}" --stream -f "$SOURCE/CMakeLists.txt"
expect_error 1 "the context of full attention is full"
lm perplexity "${full[@]}" --context 16 -f "$SOURCE/models/presets/tiny.json"
expect_status 0
