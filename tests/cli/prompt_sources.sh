# The prompt is stdin, then each -f, then the argument, joined by a blank line; --echo -n 0 prints just that.
need_model
prompt() { lm complete "${tiny[@]}" -n 0 --echo "$@"; expect_status 0; }
nl=$'\n'

prompt "hello  world"
expect_out_is "hello  world"
prompt "with newline$nl"
expect_out_is "with newline$nl"
printf 'from a file\n' >a
printf 'second\n\n' >b
: >empty
prompt -f a
expect_out_is "from a file"
prompt -f b
expect_out_is "second$nl"
prompt -f a -f empty -f b argument
expect_out_is "from a file$nl${nl}second$nl$nl${nl}argument"
prompt argument <a
expect_out_is "from a file$nl${nl}argument"
prompt -f b argument < <(printf 'piped\n')
expect_out_is "piped$nl${nl}second$nl$nl${nl}argument"
prompt <a
expect_out_is "from a file"
prompt -f - -f b <a
expect_out_is "from a file$nl${nl}second$nl"
prompt -f b -f - <a
expect_out_is "second$nl$nl${nl}from a file"
prompt argument <empty
expect_out_is "argument"
prompt argument < <(:)
expect_out_is "argument"
prompt argument </dev/null
expect_out_is "argument"
prompt --no-stdin argument <a
expect_out_is "argument"
prompt -- "--looks-like-an-option"
expect_out_is "--looks-like-an-option"
prompt "++"
expect_out_is "++"
prompt "[a,b]"
expect_out_is "[a,b]"
prompt chat
expect_out_is "chat"
prompt "-5 degrees"
expect_out_is "-5 degrees"
prompt "@a"
expect_out_is "@a"
