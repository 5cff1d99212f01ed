# shellcheck shell=sh disable=SC2154
# Made by ojai: starts a service's image once with tuning on, and keeps what it writes. Run by a unit of its own, which
# starts the service again however this ends. The first lines are set before this: name, unit, url, health, model, made,
# kept, stop, and the arguments, which are the command.
set -eu
log=$(mktemp)
engine=
trap 'rm -f "$log" "$made"' EXIT
say() { printf 'tune: %s\n' "$*"; }
ask() { curl -q --noproxy '*' -s -o /dev/null "$@"; }
fail() {
  say "$*"
  tail -n 20 "$log" >&2
  exit 1
}

say "stopping $unit"
systemctl stop "$unit"
docker rm --force "$name" >/dev/null 2>&1 || true
rm -f "$made"
start=$(date +%s)
"$@" >"$log" 2>&1 &
engine=$!
told=$start
until ask -f -m 5 "$url$health"; do
  kill -0 "$engine" 2>/dev/null || fail "the engine ended before it was ready"
  now=$(date +%s)
  [ $((now - told)) -lt 30 ] || { told=$now; say "it loads and tunes: $((now - start)) s"; }
  sleep 2
done
say "it is ready after $(($(date +%s) - start)) s; now requests of other shapes"

# What is tuned depends on how many tokens are computed at once: of prompts, and of users.
for words in 16 128 512 2048; do
  prompt=$(yes word | head -n "$words" | tr '\n' ' ')
  for users in 1 2 4; do
    waiting=
    for user in $(seq "$users"); do
      ask -m 600 -H 'Content-Type: application/json' "$url/v1/completions" \
        -d "{\"model\": \"$model\", \"prompt\": \"$user $prompt\", \"max_tokens\": 16}" &
      waiting="$waiting $!"
    done
    for each in $waiting; do wait "$each" || fail "a request of $words words failed"; done
    say "prompts of $words words, $users at a time: done after $(($(date +%s) - start)) s"
  done
done

say "stopping it: the file is written as it ends"
docker stop -t "$stop" "$name" >/dev/null
wait "$engine" || true
[ -s "$made" ] || fail "found no file at $made; expected one, written by PyTorch as it ended"
grep -q '^Validator,PT_VERSION,' "$made" || fail "found no line of PyTorch's version in $made"
results=$(grep -cv -e '^Validator,' -e '^#' -e '^$' "$made" || true)
[ "$results" -gt 0 ] || fail "found no result in $made"
sync "$made"
mv "$made" "$kept"
say "kept $kept: $results results, for $(sed -n 's/^Validator,GCN_ARCH_NAME,//p' "$kept"), in $(($(date +%s) - start)) s"
