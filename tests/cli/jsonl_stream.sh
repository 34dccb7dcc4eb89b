# A line a token as it comes, and an end; the texts together are the text.
need_model
lm complete "A dog" -n 12 -s 3 --jsonl-stream
expect_status 0
[ "$(grep -c '^{"type":"token","id":[0-9]*,"text":".*","logprob":-\{0,1\}[0-9.e-]*}$' out)" -eq 12 ] || fail "12 tokens"
expect_out '^\{"type":"end","v":1,.*"finish_reason":"length"'
tail -n 1 out | grep -q '"type":"end"' || fail "the end comes last"
sed -n 's/^{"type":"token".*"text":"\(.*\)","logprob.*/\1/p' out | tr -d '\n' >joined
lm complete "A dog" -n 12 -s 3 --json
expect_equal "$(cat joined)" "$(sed 's/.*"text":"\(.*\)","ids".*/\1/' out)"
