# summarize with the state: questions, saved states, resuming, signals.
need_model
sentence="Anna lives in a small red house by the sea with her grey cat and her brother Tom. "
for _ in $(seq 60); do printf '%s' "$sentence"; done >text.txt
lm summarize text.txt --ask "Where does Anna live?" -n 20
expect_status 0
expect_err "asked from the state: [0-9,]+ bytes"
[ -s out ] || fail "an answer"
cp out answer
lm summarize text.txt --ask "Where does Anna live?" --ask "Who is Tom?" -n 20 --quiet
expect_out "^> Where does Anna live\?$"
expect_out "^> Who is Tom\?$"
expect_equal "$(sed -n 2p out)" "$(cat answer)"
# A state saved, then asked: the same answer without the text.
lm summarize text.txt --method state -n 20 --save-state a.state --quiet
expect_status 0
cp out whole
expect_equal "$(stat -c %a a.state)" 600
lm summarize --from-state a.state --ask "Where does Anna live?" -n 20 --quiet
expect_status 0
expect_same out answer
# Naming the same file goes on from there, as if it had never stopped.
head -c 2000 text.txt >part.txt
lm summarize part.txt --method state -n 20 --save-state b.state --quiet
cp text.txt part.txt
lm summarize part.txt --method state -n 20 --save-state b.state --quiet
expect_status 0
expect_same out whole
# So does a pipe, with its next bytes.
head -c 2000 text.txt | "$SAMBA_LM" summarize --method state --save-state c.state --quiet >/dev/null
tail -c +2001 text.txt | "$SAMBA_LM" summarize --method state -n 20 --from-state c.state --save-state c.state --quiet >out
expect_same out whole
# And quotations: the sections are saved as well.
lm summarize text.txt --quiet --method quote
cp out quoted
head -c 2000 text.txt | "$SAMBA_LM" summarize --method quote --save-state d.state --quiet >/dev/null
tail -c +2001 text.txt | "$SAMBA_LM" summarize --method quote --from-state d.state --quiet >out
expect_same out quoted
# Another text is refused, a state of another kind as well.
sed 's/Anna/Emma/' text.txt >other.txt
lm summarize other.txt --method state --save-state b.state
expect_error 2 "bytes are not those that were read then; --restart"
lm summarize other.txt --method state --save-state b.state --restart -n 5 --quiet
expect_status 0
lm complete x -n 1 --save-state raw.state
lm summarize --from-state raw.state --ask Why
expect_error 1 "a raw state, expected a summarize state"
lm summarize text.txt --from-state a.state --save-state b.state
expect_error 2 "b.state"
# What the model can still recall is told.
for _ in 1 2 3; do cat text.txt; done >long.txt
lm summarize long.txt --ask "Who?" -n 5
expect_err "can recall the last 2,048 tokens \(from byte [0-9,]+ on\)"
# A signal saves and prints no summary; the run goes on later.
mkfifo slow
env --default-signal=INT "$SAMBA_LM" summarize --method state -n 20 --save-state e.state <slow >out 2>err &
pid=$!
exec 7>slow
head -c 2000 text.txt >&7
sleep 1
kill -s INT $pid
wait $pid
status=$?
exec 7>&-
last="summarize, interrupted"
expect_status 130
expect_out_is ""
expect_err "saved as e.state"
tail -c +2001 text.txt | "$SAMBA_LM" summarize --method state -n 20 --from-state e.state --quiet >out
expect_same out whole
# A template is needed for all but quotations.
mkdir prompts
echo "{text} -- In short:" >prompts/summarize.txt
SAMBA_LM_PROMPTS=$PWD/prompts "$SAMBA_LM" summarize text.txt --method state -n 20 --quiet >out
! cmp -s out whole || fail "a prompt of one's own is used"
echo "{oops}" >prompts/summarize.txt
SAMBA_LM_PROMPTS=$PWD/prompts lm summarize text.txt
expect_error 1 "oops"
