# SIGINT, SIGTERM, SIGHUP: complete prints what it has and ends with 130, 143, 129.
need_model
signalled() {  # signalled SIGNAL STATUS ARGS…: the signal comes when there is output
    local signal=$1 expected=$2 pid
    shift 2
    last="samba-lm $* (SIG$signal)"
    : >out
    env --default-signal=INT "$SAMBA_LM" "$@" >out 2>err &
    pid=$!
    for _ in $(seq 200); do [ -s out ] && break; sleep 0.02; done
    kill -s "$signal" $pid
    wait $pid
    status=$?
    expect_status "$expected"
}
signalled INT 130 complete "${tiny[@]}" x -n -1 --ignore-eos
[ -s out ] || fail "the text so far"
expect_silent_err
signalled TERM 143 complete "${tiny[@]}" x -n -1 --ignore-eos --jsonl-stream
tail -n 1 out | grep -q '"type":"end".*"finish_reason":"interrupted"' || fail "the end names the reason"
signalled HUP 129 complete "${tiny[@]}" x -n -1 --ignore-eos
# While it waits for its prompt.
mkfifo pipe
env --default-signal=INT "$SAMBA_LM" complete "${tiny[@]}" --json <pipe >out 2>err &
pid=$!
exec 9>pipe
sleep 0.5
kill -s INT $pid
wait $pid
status=$?
exec 9>&-
expect_status 130
expect_out '"finish_reason":"interrupted"'
# A program under nohup does not take SIGHUP for an end.
(trap '' HUP; exec "$SAMBA_LM" complete "${tiny[@]}" x -n -1 --ignore-eos >out 2>err) &
pid=$!
for _ in $(seq 200); do [ -s out ] && break; sleep 0.02; done
kill -s HUP $pid
sleep 0.1
kill -s TERM $pid
wait $pid
status=$?
expect_status 143
