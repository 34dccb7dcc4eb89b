# summarize as the model writes it: sections, then summaries of summaries.
need_model
for i in $(seq 80); do
    printf 'On day %d the travellers crossed another river and wrote a long letter home about it. ' "$i"
done >text.txt
lm summarize text.txt --method write --section 300 -n 30
expect_status 0
expect_err "method write"
[ -s out ] || fail "a summary"
cp out first
lm summarize text.txt --method write --section 300 -n 30 --quiet
expect_same out first
lm summarize text.txt --method write --section 300 -n 30 --json --quiet
expect_out '"method":"write","summary":"[^"]'
lm summarize text.txt --method write --section 300 -n 5 --every 500 --quiet
expect_out '^--- [0-9]+ tokens$'
