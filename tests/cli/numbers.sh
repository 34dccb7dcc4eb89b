# Numbers are decimal, finite and in their range, whatever the locale.
locale -a 2>/dev/null | grep -q '^de_DE.utf8$' && export LC_ALL=de_DE.UTF-8
for wrong in 0x1 1e nan inf 1e999 0,5 " 1" "" abc -1 --; do
    lm complete x --temp "$wrong"
    expect_error 2 "--temp: expected a number of at least 0, found '$wrong'"
done
for wrong in 0x10 1.5 1e3 "" 99999999999999999999 -2; do
    lm complete x -n "$wrong"
    expect_error 2 "--max-tokens: expected a whole number of at least -1"
done
lm complete x --top-p 1.5
expect_error 2 "--top-p: expected a number from 0 to 1, found '1.5'"
lm complete x --seed -2
expect_error 2 "--seed: expected a whole number of at least -1, found '-2'"
lm complete x --logit-bias 5
expect_error 2 "--logit-bias: expected ID\+BIAS or ID-BIAS, found '5'"
lm complete x --stop ""
expect_error 2 "--stop: an empty text"
lm complete "${tiny[@]}" x -n 1 --logit-bias 999999+1
expect_error 2 "--logit-bias: token 999999, but the model has only"

lm complete "${tiny[@]}" x -n +3 --temp 5e-1 --top-k 010 -s=-1 --json
expect_error 2 "--seed"  # a short option takes no =
lm complete "${tiny[@]}" x -n +3 --temp 5e-1 --top-k 010 --seed=-1 --json
expect_status 0
expect_equal "$(json completion_tokens)" 3
