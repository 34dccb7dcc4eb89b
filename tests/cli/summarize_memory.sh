# Memory does not grow with the text: ten times the text in as much memory, give or take a tenth.
need_model
for i in $(seq 1000); do
    printf 'The %d travellers of that winter crossed a wide river near the town of Number%d again.\n' "$i" $((i % 70))
done >small.txt
for _ in 1 2 3 4 5 6 7 8 9 10; do cat small.txt; done >large.txt
peak() { lm summarize "${tiny[@]}" --json --quiet "$@"; expect_status 0; json peak_memory_bytes; }
for method in quote state; do
    small=$(peak --method $method small.txt -n 10)
    large=$(peak --method $method -n 10 - <large.txt)
    [ "$large" -lt $((small + small / 10)) ] || fail "$method: $small bytes for a small text, $large for a large one"
done
