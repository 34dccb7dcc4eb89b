# How well a text is predicted: exact fields, the same numbers whichever way the text comes.
need_model
head -c 3000 "$SOURCE/tests/goldens/make_goldens.py" >text
lm perplexity "${tiny[@]}" -f text --context 100000 --json
expect_status 0
expect_out '^\{"v":1,"model":"[^"]+","tokens":[0-9]+,"nll":[0-9.]+,"perplexity":[0-9.]+,"stderr":[0-9.]+,"context":100000,"positions":\[\]\}$'
nll=$(json nll)
lm perplexity "${tiny[@]}" -f text --stream --json
expect_equal "$(json nll)" "$nll"
expect_equal "$(json context)" null
lm perplexity "${tiny[@]}" --stream --json < <(head -c 1111 text; sleep 0.1; tail -c +1112 text)
expect_equal "$(json nll)" "$nll"
lm perplexity "${tiny[@]}" -f text --context 64 --by-position --json
expect_out '"positions":\[\{"from":[01],"to":[0-9]+,"tokens":[0-9]+,"nll":[0-9.]+\}.*\{"from":32,"to":64,'
lm perplexity "${tiny[@]}" -f text --context 64 --by-position
expect_out "^\| *32 \| *64 \|"
expect_out "^perplexity [0-9.]+, nll [0-9.]+ ± [0-9.]+ nats, [0-9,]+ tokens, context 64$"
lm perplexity "${tiny[@]}" -f text --context 64 --by-position --format csv
expect_out "^from,to,tokens,nll,stderr,perplexity$"
head -c 600 text >short
lm perplexity -f short --kl-base "$MODEL" --json
expect_out '"kl":-?0(\.0|e|,|\.00)'
expect_out '"same_best":1\.0'
lm perplexity "${tiny[@]}" -f text --stream --context 5
expect_error 2 "contradict"
lm perplexity "${tiny[@]}"
expect_error 2 "nothing to predict"
lm perplexity "${tiny[@]}" -f none
expect_error 1 "none: cannot be read"
