# Raw logits as a NumPy file: float32 (tokens, vocabulary).
need_model
ids=$(seq -s, 100 700)
lm logits "${tiny[@]}" --ids "$ids" -o all.npy
expect_status 0
expect_out_is ""
expect_equal "$(head -c 128 all.npy | tr -d '\0' | grep -ao "{'descr': '<f4', 'fortran_order': False, 'shape': (601, 8192), }")" \
    "{'descr': '<f4', 'fortran_order': False, 'shape': (601, 8192), }"
expect_equal "$(stat -c %s all.npy)" $((128 + 601 * 8192 * 4))
lm logits "${tiny[@]}" --ids "$ids" --chunk 7 -o sevens.npy
expect_same all.npy sevens.npy
lm logits "${tiny[@]}" --ids "$ids" --chunk 1 --positions 0,600 -o ends.npy
expect_equal "$(stat -c %s ends.npy)" $((128 + 2 * 8192 * 4))
lm logits "${tiny[@]}" --ids "$ids" --positions 600,0 -o ends2.npy
cmp -s <(head -c $((128 + 8192 * 4)) ends2.npy | tail -c $((8192 * 4))) <(head -c $((128 + 8192 * 4)) all.npy | tail -c $((8192 * 4))) ||
    fail "row 0 is that of token 0"
cmp -s <(tail -c $((8192 * 4)) ends2.npy) <(tail -c $((8192 * 4)) all.npy) || fail "the last row is that of the last token"
lm logits "${tiny[@]}" --ids 1,2 -o all.npy
expect_error 2 "all.npy.*exists already"
lm logits "${tiny[@]}" --ids 1,2 --positions 2 -o x.npy
expect_error 2 "--positions: 2, but there are only 2 tokens"
lm logits "${tiny[@]}" --ids 1,2 --positions 1,1 -o x.npy
expect_error 2 "twice"
lm logits "${tiny[@]}" --ids 1,99999 -o x.npy
expect_error 2 "99999"
lm logits "${tiny[@]}" --ids 1,2
expect_error 2 "-o/--output is missing"
lm logits "${tiny[@]}" --ids 1,2 -o /dev/full
expect_error 1 "/dev/full"
