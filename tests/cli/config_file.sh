# A mistake in the config file is one line that says where.
config() { printf "$1" >c; lm complete x --config c; }
config '[complete]\nwrong = 1\n'
expect_error 2 "c:2: no option 'wrong' that \[complete\] can set"
config '[complete]\nforce = true\n'
expect_error 2 "c:2: no option 'force'"
config 'temp = 1\n'
expect_error 2 "c:1: expected a section"
config '[nothing]\n'
expect_error 2 "c:1: \[nothing\] is no command"
config '[complete]\n\ntemp 1\n'
expect_error 2 "c:3: expected 'option = value'"
config '[complete]\nstop = "open\n'
expect_error 2 "c:2: the closing quote is missing"
config '[complete]\ntemp = warm\n'
expect_error 2 "c:2: --temp: expected a number of at least 0, found 'warm'"
lm complete x --config none
expect_error 1 "none: cannot be read"
SAMBA_LM_CONFIG=none lm complete x
expect_error 1 "none: cannot be read"
