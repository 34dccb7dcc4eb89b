# summarize by quotation: sentences of the text, where they say they are, of files, pipes and growing streams.
need_model
cat >text.txt <<'TEXT'
The Tides

Twice a day the water along most coasts of the world rises and falls again. Mr. Holm, who kept the light
at the harbour for forty years, wrote down every one of these tides in a thick blue book. The moon pulls
the water nearest to it a little more strongly than it pulls the solid earth. This difference in the pull
of the moon makes two bulges of water, one on each side of the earth.

Springs and Neaps

When the sun and the moon stand in one line, their pulls add up and the tides are especially high. What
happens when they do not? When they stand at right angles as seen from the earth, the tides are weak. Fishermen
have known this for thousands of years, long before anybody could say why it was so.
TEXT
lm summarize text.txt --words 40 --lang en
expect_status 0
expect_err "method quote: [0-9,]+ bytes, [0-9,]+ tokens, [0-9.]+ s, [0-9,]+ tokens/s, peak memory"
expect_equal "$(wc -l <err)" 1
expect_no_out "What happens"
cp out plain
lm summarize text.txt --words 40 --offsets --quiet
expect_silent_err
expect_out '^\[[0-9]+\] [A-Z]'
sed -n 's/^\[\([0-9]*\)\] .*/\1/p' out >offsets
while read -r offset; do
    line=$(sed -n "s/^\[$offset\] //p" out)
    expect_equal "$(tail -c "+$((offset + 1))" text.txt | head -c ${#line})" "$line"
done <offsets
sed 's/^\[[0-9]*\] //' out >stripped
expect_same stripped plain
"$SAMBA_LM" summarize --words 40 --quiet <text.txt >out
expect_same out plain
(while IFS= read -r line; do printf '%s\n' "$line"; sleep 0.01; done) <text.txt | "$SAMBA_LM" summarize - --words 40 --quiet >out
expect_same out plain
lm summarize text.txt --words 40 --json --quiet
expect_out '"v":1,"method":"quote","summary":".*"sentences":\[\{"text":".*","file":"text.txt","offset":[0-9]+,"bytes":[0-9]+\}'
# Several files, in order; the offsets name them.
cp text.txt other.txt
echo "A completely different sentence about stone bridges over rivers ends this list." >>other.txt
lm summarize text.txt other.txt --offsets --quiet --words 200
expect_status 0
expect_out '^\[text.txt:[0-9]+\]'
expect_out '^\[other.txt:[0-9]+\] A completely different'
lm summarize text.txt none.txt
expect_error 1 "none.txt"
lm summarize </dev/null
expect_error 2 "the text is empty"
lm summarize text.txt --lang klingon
expect_error 2 "klingon.*english"
lm summarize text.txt --method guess
expect_error 2 "guess"
lm summarize text.txt --method quote --ask "Why?"
expect_error 2 "--ask"
printf '\xff\xfeT\0e\0' >utf16.txt
lm summarize utf16.txt
expect_error 1 "iconv"
printf 'A text with a broken \xff byte in it that is long enough to be quoted whole.' >broken.txt
"$SAMBA_LM" summarize broken.txt >out 2>err
cmp -s <(head -c "$(stat -c %s broken.txt)" out) broken.txt || fail "the bytes are those of the text"
expect_err "1 bytes are not valid UTF-8"
# So far, at every N tokens, while the text still comes.
mkfifo slow
"$SAMBA_LM" summarize "${tiny[@]}" --method quote --every 100 <slow >out 2>err &
pid=$!
exec 7>slow
cat text.txt >&7
for _ in $(seq 200); do grep -q '^--- ' out && break; sleep 0.05; done
expect_out '^--- 1[0-9][0-9] tokens$'
exec 7>&-
wait $pid
expect_equal "$(grep -c '^--- ' out)" 2
