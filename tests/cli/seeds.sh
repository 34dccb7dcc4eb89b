# The same seed gives the same text, on any number of threads; without one, each run draws its own and names it.
need_model
say() { "$SAMBA_LM" complete "One day" -n 24 "$@" 2>/dev/null; }
first=$(say -s 7)
expect_equal "$(say -s 7)" "$first"
expect_equal "$(say -s 7 -t 1)" "$first"
[ "$(say -s 8)" != "$first" ] || fail "another seed, another text"
lm complete "One day" -n 24 --json
seed=$(json seed)
text=$(json text)
lm complete "One day" -n 24 --json
[ "$(json seed)" != "$seed" ] || fail "every run draws a seed"
lm complete "One day" -n 24 --json -s "$seed"
expect_equal "$(json text)" "$text"
lm complete "One day" -n 24 --verbose -s "$seed"
expect_err "^samba-lm: seed $seed$"
greedy=$(say --temp 0 -s 1)
expect_equal "$(say --temp 0 -s 2)" "$greedy"
expect_equal "$(say --top-k 1 -s 2)" "$greedy"
