# One file gives every type; the output appears whole or not at all.
need_model
lm quantize "$MODEL" wide.gguf f32
expect_status 0
expect_out "wide.gguf: .*error of all matrices 0.000 %"
lm quantize wide.gguf q8.gguf Q8_0 --json --set general.license=test
expect_status 0
expect_out '^\{"v":1,"file":"q8.gguf","type":"[^"]+","bytes_before":[0-9]+,"bytes_after":[0-9]+,"relative_error":0\.00[0-9]+,"content_hash":"[0-9a-f]{16}","tensors":\['
lm inspect q8.gguf
expect_out "^general.license = test$"
for text in wide q8; do
    lm complete -m $text.gguf "Once upon a time" -n 8 --temp 0
    expect_out "girl"
done
lm quantize "$MODEL" q8.gguf q8_0
expect_error 2 "q8.gguf.*exists already"
lm quantize "$MODEL" q8.gguf q8_0 --force
expect_status 0
lm quantize "$MODEL" x.gguf q3_x
expect_error 2 "q3_x"
lm quantize "$MODEL" x.gguf f32 --set nothing=1
expect_error 2 "nothing"
lm quantize "$MODEL" no/such/place.gguf f32
expect_error 1 "no/such/place.gguf"
lm quantize none.gguf x.gguf f32
expect_error 1 "none.gguf"
expect_equal "$(echo x.gguf*)" "x.gguf*"
# A signal leaves nothing behind.
env --default-signal=INT "$SAMBA_LM" quantize wide.gguf k.gguf q4_k_m >out 2>err &
pid=$!
for _ in $(seq 200); do compgen -G "k.gguf*" >/dev/null && break; sleep 0.01; done
kill -s INT $pid
wait $pid
status=$? last="quantize, interrupted"
expect_status 130
expect_equal "$(echo k.gguf*)" "k.gguf*"
