#!/usr/bin/env bash
# Starts the clock daemon and the timer service in the foreground, says where things are, and stops both on Ctrl-C.
# MINOOTS_LISTEN, MINOOTS_DATA and CHRONOTICK_SHM choose other places; NTP_SERVERS (separated by spaces) other servers;
# CARGO_BUILD=debug the programs of a plain `cargo build`.
set -euo pipefail
cd "$(dirname "$0")/.."

listen=${MINOOTS_LISTEN:-127.0.0.1:7878}
data=${MINOOTS_DATA:-${XDG_DATA_HOME:-$HOME/.local/share}/minoots}
shm=${CHRONOTICK_SHM:-chronotick_shm}
bin=${CARGO_TARGET_DIR:-target}/${CARGO_BUILD:-release}
servers=()
for server in ${NTP_SERVERS:-}; do servers+=(--server "$server"); done

pids=()
stop() {
	trap - INT TERM HUP EXIT
	kill -TERM "${pids[@]}" 2>/dev/null || true
	wait "${pids[@]}" 2>/dev/null || true
}
trap 'stop; exit 0' INT TERM HUP
trap stop EXIT

# In groups of their own: Ctrl-C reaches this script, which stops each of them once. Twice would be "at once".
set -m
"$bin/chronotick-daemon" run --shm "$shm" "${servers[@]}" &
pids+=($!)
"$bin/minoots" serve --listen "$listen" --data "$data" --shm "$shm" &
pids+=($!)
set +m

# Ready when /readyz says so; a process that ended said why itself.
for _ in $(seq 100); do
	curl -fsS "http://$listen/readyz" >/dev/null 2>&1 && break
	for pid in "${pids[@]}"; do kill -0 "$pid" 2>/dev/null || exit 1; done
	read -rt 0.1 <> <(:) || true
done

cat <<END

  clock page   $shm     look at it:  $bin/chronotick-daemon status --shm $shm
  timers       http://$listen     events:      curl -N http://$listen/v1/events
  data         $data

  Try this in another terminal: a timer that calls a webhook in two seconds (the first line is the webhook's receiver).

    python3 $PWD/scripts/receive.py 9090 &
    curl -s http://$listen/v1/timers -H 'content-type: application/json' -d '{"name": "hello", "after": "2s", "actions": [{"id": "call", "kind": "webhook", "parameters": {"url": "http://127.0.0.1:9090/"}}]}'

  Without a network that has NTP the clock daemon goes on trying and says so; timers then run on the system clock, and
  http://$listen/v1/status says that too. Ctrl-C stops both.

END
wait -n "${pids[@]}"
