# Somebody at a terminal: starts a program there, types, and waits for what the screen shows.
# start_typing COMMAND; keys TEXT (printf's escapes); sees REGEX, in what was shown since the last one; end_typing.

start_typing() {
    command -v script >/dev/null || { echo "no script(1) here, which makes a terminal"; exit 77; }
    rm -f keys screen.raw
    mkfifo keys
    : >screen.raw
    # Only a process that may be interrupted can be; a background job's child may not. Without exec, some shells would stay
    # as its parent, and end of Ctrl-C with 130 whatever the program does.
    env --default-signal=INT script -qefc "exec $1" screen.raw <keys >/dev/null 2>&1 &
    typist=$!
    exec 8>keys
    seen=1
    last=$1
}

keys() {
    # shellcheck disable=SC2059  # the escapes are wanted
    printf "$1" >&8
}

sees() {
    local _
    for _ in $(seq 400); do
        if tail -c "+$seen" screen.raw | tr -d '\r' | grep -qaE -e "$1"; then
            seen=$(($(stat -c %s screen.raw) + 1))
            return
        fi
        sleep 0.05
    done
    tail -c "+$seen" screen.raw | cat -v >out
    fail "expected on the screen: $1"
}

# So many bytes more, whatever they are.
sees_bytes() {
    local _
    for _ in $(seq 400); do
        [ "$(stat -c %s screen.raw)" -gt $((seen + $1)) ] && return
        sleep 0.05
    done
    fail "expected $1 bytes more on the screen"
}

end_typing() {
    exec 8>&-
    wait $typist
    status=$?
}
