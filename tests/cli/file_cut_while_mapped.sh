# The model file shrinks while it is in use: one line, exit 1, no crash.
need_model
lm quantize "$MODEL" wide.gguf f32
: >out  # what quantize said would count as the output waited for
"$SAMBA_LM" complete -m wide.gguf x -n -1 --ignore-eos >out 2>err &
pid=$!
for _ in $(seq 200); do [ -s out ] && break; sleep 0.02; done
truncate -s 1000000 wide.gguf
wait $pid
status=$? last="complete while its model is cut"
expect_status 1
expect_equal "$(wc -l <err)" 1
expect_err "^samba-lm: wide.gguf: the file was cut short while it was in use"
