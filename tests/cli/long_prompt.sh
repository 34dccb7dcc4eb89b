# A prompt of any length is read as a stream, in constant memory.
need_model
for _ in $(seq 40); do cat "$SOURCE/tests/goldens/make_goldens.py"; done | head -c 120000 >long
lm complete "${tiny[@]}" -f long -n 3 --temp 0 --json
expect_status 0
whole=$(json ids)$(json text)
[ "$(json prompt_tokens)" -gt 30000 ] || fail "all of it was read"
lm complete "${tiny[@]}" -n 3 --temp 0 --json < <(head -c 50001 long; sleep 0.1; tail -c +50002 long)
expect_equal "$(json ids)$(json text)" "$whole"
