# Where the model is looked for, and what is said when it is not there.
need_model
mkdir -p usr/bin usr/share/samba-lm
cp "$SAMBA_LM" usr/bin/samba-lm
unset SAMBA_LM_MODEL
"$PWD/usr/bin/samba-lm" complete x -n 1 >out 2>err
status=$? last="an installed program without a model"
expect_error 2 "no model: neither -m/--model nor SAMBA_LM_MODEL names one, and it is not at $PWD/usr/share/samba-lm/samba-47m-q4_k_m.gguf$"
ln -s "$MODEL" usr/share/samba-lm/samba-47m-q4_k_m.gguf
ln -s "$PWD/usr/bin/samba-lm" link
"$PWD/link" complete x -n 1 >out 2>err
status=$? last="the model in share, the program by a link"
expect_status 0
cp "$SOURCE/CMakeLists.txt" text.gguf
lm complete -m text.gguf x
expect_error 1 "text.gguf.*not a GGUF file"
lm complete -m none.gguf x
expect_error 1 "none.gguf.*No such file"
lm complete -m . x
expect_error 1 "not a regular file"
size=$(stat -c %s "$MODEL")
for bytes in 0 4 20 1000 200000 $((size / 2)) $((size - 1)); do
    head -c "$bytes" "$MODEL" >cut.gguf
    lm complete -m cut.gguf x
    expect_error 1 "cut.gguf"
done
SAMBA_LM_MODEL=none.gguf lm complete x
expect_error 1 "none.gguf"
