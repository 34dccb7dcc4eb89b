# What a model file holds and needs; a damaged one is found.
need_model
lm inspect "$MODEL"
expect_status 0
expect_out "^blocks +12: 6 mamba, 6 attention \(window 2,048\), each with an MLP$"
expect_out "^state +[0-9.]+ MB a session"
expect_out "^general.architecture = samba$"
expect_out "^blk.0.ssm_in.weight +[A-Z0-9_]+ +512 × 2048 +[0-9]+$"
lm inspect
expect_status 0
lm inspect --json
expect_equal "$(wc -l <out)" 1
expect_out '^\{"v":1,"file":"[^"]+","file_bytes":[0-9]+,'
expect_out '"metadata":\{.*"config":\{"d_model":512,.*"blocks":\[\{"mixer":"mamba",.*"tensors":\[\{"name":"[^"]+","type":"[A-Z0-9_]+","shape":\[[0-9,]+\],"bytes":[0-9]+,"hash":"[0-9a-f]{16}"\}'
expect_out '"state_bytes":[0-9]+,"saved_state_bytes":[0-9]+,"memory_bytes":[0-9]+\}$'
lm inspect --check
expect_status 0
expect_out "^checked: every value of [0-9]+ tensors is finite, the content hash is right$"
cp "$MODEL" bad.gguf
printf '\xff\xff' | dd of=bad.gguf bs=1 seek=$(($(stat -c %s bad.gguf) - 600)) conv=notrunc status=none
lm inspect bad.gguf
expect_status 0
lm inspect bad.gguf --check
expect_error 1 "bad.gguf: (the tensors' content hash is|tensor)"
