# The report of complete --json.
need_model
lm complete "Once upon a time" -n 5 --temp 0 --json --logprobs 2
expect_status 0
expect_equal "$(wc -l <out)" 1
expect_out '^\{"v":1,"model":"[^"]+","seed":[0-9]+,"text":"[^"]+","ids":\[[0-9]+(,[0-9]+){4}\],"prompt_tokens":5,'
expect_out '"completion_tokens":5,"finish_reason":"length","stop":null,"logprobs":\['
expect_out '"logprobs":\[\{"id":[0-9]+,"text":"[^"]+","logprob":-[0-9.e-]+,"top":\[(\{"id":[0-9]+,"text":"[^"]*","logprob":-[0-9.e-]+\},?){2}\]\}'
expect_out '"timings":\{"load_s":[0-9.e-]+,"prompt_s":[0-9.e-]+,"prompt_tokens_per_s":[0-9.e+-]+,"generate_s":[0-9.e-]+,"tokens_per_s":[0-9.e+-]+\}\}$'
expect_silent_err
lm complete "Once upon a time" -n 5 --temp 0 --json --echo
expect_out '"text":"Once upon a time'
expect_out '"logprobs":null'
# Half a character is no JSON: it becomes U+FFFD, the ids stay exact. 230 is a byte of three.
byte=$("$SAMBA_LM" tokenize $'\xf4\x8f\xbf\xbd' --plain | tr , '\n' | tail -n 1)
lm complete "${tiny[@]}" x -n 2 --logit-bias "$byte+1000" --json
expect_out "\"ids\":\[$byte,$byte\]"
expect_out $'"text":"\xef\xbf\xbd'
