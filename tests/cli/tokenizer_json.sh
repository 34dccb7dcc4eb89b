# A Hugging Face directory with a byte-level tokenizer.json: to a model file, text with it, and the way back.
command -v python3 >/dev/null || { echo "no python3 here, which makes the directory"; exit 77; }
helper() { python3 "$SOURCE/tests/cli/tokenizer_json.py" "$@" >said 2>&1; }

for kind in gpt2 neox llama; do
    helper make $kind $kind || fail "make $kind: $(tail -n 1 said)"
    lm convert $kind -o $kind.gguf --set samba.end_token_ids=0
    expect_status 0
    helper ids $kind $kind.gguf || fail "ids of $kind: $(tail -n 1 said)"

    # A control token comes from no text; the piece itself is there.
    lm tokenize -m $kind.gguf "<|endoftext|><|end_of_text|>" --plain
    [ "$(tr -cd , <out | wc -c)" -gt 2 ] || fail "text never becomes a control token"
    lm inspect $kind.gguf
    expect_status 0

    lm complete -m $kind.gguf "船は夜明けに" -n 60 -s 1 --temp 1 --device cpu --jsonl-stream
    expect_status 0
    helper events $kind.gguf out || fail "stream of $kind: $(tail -n 1 said)"

    lm convert $kind.gguf -o $kind-back --to hf
    expect_status 0
    lm convert $kind-back -o $kind-again.gguf
    expect_status 0
    helper ids $kind $kind-again.gguf || fail "ids of $kind after the way back: $(tail -n 1 said)"
    helper reference $kind $kind-back
    case $? in
    0) ;;
    77) tail -n 1 said ;;
    *) fail "tokenizers on the way back of $kind: $(tail -n 1 said)" ;;
    esac
done

# A chat, with a template of text and one control token; its session goes on.
cat >plain.json <<'END'
{"name": "plain", "begin": [], "system": [{"content": true}, {"text": "\n"}], "user": [{"text": "Q: "}, {"content": true}, {"text": "\n"}],
 "assistant": [{"text": "A: "}, {"content": true}, {"token": "<|endoftext|>"}], "end": ["<|endoftext|>"]}
END
for message in "船は?" "and then"; do
    "$SAMBA_LM" chat -m gpt2.gguf --template plain.json --session s --device cpu -n 20 --seed 1 <<<"$message" >out 2>err
    status=$?
    expect_status 0
    [ -s out ] || fail "a reply to $message"
done

# Two end tokens, of which 1000 is no piece: the file keeps both.
lm convert gpt2 -o ends.gguf
expect_status 0
lm inspect ends.gguf
expect_out "end_token_ids.*0.*1000"

sed 's/"type":"BPE"/"type":"Unigram"/' gpt2/tokenizer.json >other.json
lm convert gpt2 -o no.gguf --tokenizer other.json
expect_error 1 'other.json.*expected a model of type "BPE" with vocab and merges, found type "Unigram"'
rm gpt2/tokenizer.json
lm convert gpt2 -o no.gguf
expect_error 1 'gpt2" has no tokenizer.model or tokenizer.json: name one with --tokenizer'
