# Text to ids and back, nothing changed on the way.
need_model
lm tokenize "Hello world"
expect_status 0
expect_out $'^[0-9]+\t▁Hello$'
printf 'Two  lines,\nna\xc3\xafve \xf0\x9f\x98\x80 <|user|>\r\n\ttab \xe4\xb8\xad' >text
lm tokenize -f text --plain
mv out ids
expect_equal "$(tr -cd , <ids | wc -c)" "$(($("$SAMBA_LM" tokenize <text | wc -l) - 1))"
lm tokenize --ids ids
expect_same out text
lm tokenize --ids "$(cat ids)"
expect_same out text
lm tokenize --ids @ids --json
expect_out '^\{"v":1,"text":"Two  lines,\\n.*","n_tokens":[0-9]+,"ids":\[[0-9,]+\],"pieces":\["'
lm tokenize "<|user|>" --plain
[ "$(tr -cd , <out | wc -c)" -gt 0 ] || fail "text never becomes a control token"
lm tokenize --ids 1,99999
expect_error 2 "token 99999, but the model has only 8192"
lm tokenize --ids 1,x
expect_error 2 "--ids: expected a whole number of at least 0, found 'x'"
lm tokenize --ids no-such-file
expect_error 1 "no-such-file"
lm tokenize a -f b
expect_error 2 "give one of"
lm tokenize --ids 4,5
expect_out_is ""
