# Nobody reads any more: complete is content with that, other commands are not.
need_model
"$SAMBA_LM" complete "${tiny[@]}" x -n -1 --ignore-eos 2>err | head -c 20 >out
codes=("${PIPESTATUS[@]}")
expect_equal "${codes[0]}" 0
expect_silent_err
expect_equal "$(wc -c <out)" 20
"$SAMBA_LM" complete "${tiny[@]}" x -n -1 --ignore-eos --save-state s | head -c 20 >out
expect_file s  # what was asked for beside the text is done
{ "$SAMBA_LM" inspect 2>err; echo $? >code; } | true
while [ ! -s code ]; do sleep 0.05; done
expect_equal "$(cat code)" 1
expect_err "standard output: nobody reads it any more"
