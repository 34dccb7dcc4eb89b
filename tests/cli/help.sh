# What the program says about itself.
lm
expect_status 0
expect_out "^Usage: samba-lm COMMAND"
expect_silent_err
cp out bare
lm --help
expect_same out bare

lm --version
expect_status 0
expect_out "^samba-lm [0-9]+\.[0-9]+\.[0-9]+ \("

commands=$(sed -n '/^Commands:$/,/^$/s/^  \([a-z]*\) .*/\1/p' bare)
expect_equal "$(echo $commands)" \
    "chat complete summarize convert quantize inspect tokenize perplexity logits bench doctor"
for command in $commands; do
    lm "$command" --help
    expect_status 0
    expect_out "^Usage: samba-lm $command \[OPTIONS\]"
    expect_out "^Examples:$"
    expect_out "^  samba-lm $command"
    expect_out "^  -h, --help "
    expect_silent_err
    [ "$(wc -L <out)" -le 100 ] || fail "help of $command is wider than 100 columns"
done
