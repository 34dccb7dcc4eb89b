# From a checkpoint to a model file; the real checkpoint where it lies beside the source tree.
lm convert nothing -o m.gguf
expect_error 1 "nothing"
lm convert . -o m.gguf
expect_error 1 "config.json|model.safetensors"
lm convert .
expect_error 2 "-o/--output is missing"
lm convert . -o m.gguf --set x
expect_error 2 "--set: expected KEY=VALUE, found 'x'"
expect_equal "$(echo m.gguf*)" "m.gguf*"

# A .pth of the public training code, and the way back to a Hugging Face directory.
family=$SOURCE/tests/goldens/family
lm convert "$family/samba/model.pth" --preset "$family/samba/preset.json" --no-tokenizer -o p.gguf
expect_status 0
expect_out "^checkpoint +microsoft/Samba Toy$"
lm convert "$family/samba/model.pth" --no-tokenizer -o none.gguf
expect_error 1 "names the configuration \"Toy\", which is not known: name one with --preset"
lm convert "$family/hf_samba" --no-tokenizer -o h.gguf
expect_status 0
lm convert h.gguf -o back --to hf
expect_status 0
expect_out "^written +back: a Hugging Face directory \(samba\), [0-9]+ tensors"
lm convert back --no-tokenizer -o again.gguf
expect_status 0
lm convert h.gguf -o back2 --to zip
expect_error 2 "--to zip: expected hf"

checkpoint=$SOURCE/../shared/models/samba-47m
if [ -f "$checkpoint/model.safetensors" ]; then
    lm convert "$checkpoint" -o m.gguf --template samba --set general.license=test
    expect_status 0
    expect_out "^parameters +46,6[0-9]{2},[0-9]{3}$"
    expect_out "^blocks +12: 6 mamba, 6 attention \(window 2,048\), each with an MLP$"
    expect_out "^written +m.gguf: bf16, [0-9]+ tensors, [0-9.]+ MB, content hash [0-9a-f]{16}$"
    lm inspect m.gguf --check
    expect_status 0
    expect_out "^general.license = test$"
    lm complete -m m.gguf --chat "What is the moon?" --temp 0
    expect_out "^The moon is"
    lm convert "$checkpoint" -o m.gguf
    expect_error 2 "m.gguf.*exists already"
    lm convert "$checkpoint" -o q.gguf --type q8_0 --no-tokenizer --json
    expect_status 0
    expect_out '^\{"v":1,"file":"q.gguf","checkpoint":"[^"]+",.*"parameters":46[0-9]+,"tensors":[0-9]+,"bytes":[0-9]+,"content_hash":"[0-9a-f]{16}","notes":\['
    lm complete -m q.gguf x
    expect_error 1 "q.gguf: no tokenizer inside; convert with --tokenizer tokenizer.model"
    lm logits -m q.gguf --ids 1,2 -o l.npy
    expect_status 0
fi
