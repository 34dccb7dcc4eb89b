# What this machine offers; never fails for want of a GPU or a model.
lm doctor
expect_status 0
expect_out "^CPU +.+ physical cores? for this process$"
expect_out "^kernels +(portable|avx2|avx512|amx)$"
expect_out "^memory +[0-9.]+ [GM]B available of "
expect_out "^runs on +"
lm doctor --json
expect_out '^\{"v":1,"version":.*"cpu":\{"name":.*"memory":\{"total_bytes":[0-9]+,"available_bytes":[0-9]+\}.*"device":\{"name":'
SAMBA_LM_MODEL=none.gguf lm doctor
expect_status 0
expect_out "^model +.*none.gguf"
SAMBA_LM_ISA=portable lm doctor
expect_out "^kernels +portable$"
