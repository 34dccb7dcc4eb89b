# A chat that goes on: --session is read at the start, saved after every reply, locked, and never overwritten broken.
need_model
ask() { printf "$1" | "$SAMBA_LM" chat "${@:2}" >out 2>err; status=$?; last="chat ${*:2} <<<$1"; }
ask 'My name is Ada.' --session a.chat --temp 0 -n 20
expect_status 0
expect_equal "$(stat -c %a a.chat)" 600
cp a.chat before.chat
ask 'And now?' --session a.chat --temp 0 -n 20
expect_status 0
cp out second
# The same two turns again, from a copy: the same reply.
ask 'And now?' --session before.chat --temp 0 -n 20
expect_same out second
# It brings its ring type and its system prompt; contradictions are said.
ask 'Hi' --session a.chat --ring-type q8_0
expect_error 2 "--ring-type q8_0"
ask 'Hi' --session a.chat --system 'Another.'
expect_error 2 "--system"
ask 'Hi' --session q.chat --ring-type q8_0 --system 'Be brief.' -n 5
expect_status 0
ask 'Hi' --session q.chat --system 'Be brief.' -n 5
expect_status 0
ask 'Hi' --session a.chat "${tiny[@]}"
expect_error 1 "another model"
ask 'Hi' --session a.chat --template chatml
expect_error 1 "template"
# A broken file is refused and stays.
head -c 5000 a.chat >torn.chat
cp torn.chat torn
ask 'Hi' --session torn.chat
expect_error 1 "torn.chat"
expect_same torn torn.chat
lm complete x -n 1 --save-state raw.state
ask 'Hi' --session raw.state
expect_error 1 "a raw state"
ask 'Hi' --session /nowhere/at/all
expect_error 1 "/nowhere/at/all"
# A new session that fails leaves nothing.
ask '' --session new.chat
expect_error 2 "empty"
expect_no_file new.chat
# One process at a time.
mkfifo wait
"$SAMBA_LM" chat --session a.chat -n 3 <wait >/dev/null 2>&1 &
pid=$!
exec 7>wait
sleep 1  # it must have the lock before another asks, or it is the one that is refused
for _ in $(seq 100); do
    ask 'Hi' --session a.chat -n 3
    [ "$status" -eq 0 ] || break
    sleep 0.02
done
expect_error 1 "another samba-lm is using this session"
exec 7>&-
wait $pid
