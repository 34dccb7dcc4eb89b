# A state file is a prefix, read once and used many times.
need_model
long="The old man lived by the sea with his dog. Every morning he went out in his boat"
lm complete "$long and" -n 20 --temp 0
cp out whole
lm complete "$long" -n 0 --save-state sea.state
expect_status 0
expect_out_is ""
expect_equal "$(stat -c %a sea.state)" 600
lm complete --load-state sea.state " and" -n 20 --temp 0
expect_status 0
expect_same out whole
lm complete --load-state sea.state " and" -n 20 --temp 0 < <(:)
expect_same out whole
# The reply is part of the state too.
lm complete "$long and" -n 8 --temp 0 --save-state more.state
cp out parts
lm complete --load-state more.state -n 12 --temp 0
cat out >>parts
expect_same parts whole

lm complete "$long" -n 0 --save-state sea.state
expect_error 2 "sea.state: exists already \(--force replaces it\)"
lm complete "$long" -n 0 --save-state sea.state --force
expect_status 0
lm complete --load-state none.state x
expect_error 1 "none.state"
lm complete "${tiny[@]}" --load-state sea.state x
expect_error 1 "model"
head -c 1000 sea.state >torn.state
lm complete --load-state torn.state x
expect_error 1 "torn.state"
lm complete --load-state "$MODEL" x
expect_error 1 "."
lm complete --chat --load-state sea.state
expect_error 2 "no prompt"
