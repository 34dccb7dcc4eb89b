# Command line, then environment, then config file, then model file, then built-in.
need_model
count() { lm complete "${tiny[@]}" x --json "$@"; expect_status 0; json completion_tokens; }
printf '# mine\n[chat]\nmax-tokens = 99\n\n[complete]\nmax-tokens = 2  # two\nignore-eos = true\nstop = "never # this"\n' >my.conf
expect_equal "$(count --ignore-eos --max-tokens 4)" 4
expect_equal "$(count --config my.conf)" 2
export SAMBA_LM_MAX_TOKENS=3 SAMBA_LM_IGNORE_EOS=true
expect_equal "$(count)" 3
expect_equal "$(count --config my.conf)" 3
expect_equal "$(SAMBA_LM_CONFIG=my.conf count -n 5)" 5
unset SAMBA_LM_MAX_TOKENS
expect_equal "$(SAMBA_LM_CONFIG=my.conf count)" 2
expect_equal "$(count -n 6 -n 7)" 7
# What belongs to one run has neither name nor key.
SAMBA_LM_FORCE=true SAMBA_LM_FILE=none SAMBA_LM_SAVE_STATE=s count -n 1 >/dev/null
expect_no_file s
SAMBA_LM_MAX_TOKENS=many lm complete x
expect_error 2 "SAMBA_LM_MAX_TOKENS: --max-tokens: expected a whole number"
SAMBA_LM_JSON=perhaps lm complete x
expect_error 2 "SAMBA_LM_JSON: expected true or false, found 'perhaps'"
