#!/bin/sh
# Makes pump-house.trace and pump-house.samples anew, see README.md. Takes a minute. Run it from the repository's root.
set -eu
traces=gateway/tests/traces
cargo build -p ganglion -p ganglion-hil --bin ganglion --bin simulated-site
made=$(mktemp -d)
trap 'kill "$units" 2>/dev/null; rm -rf "$made"' EXIT

units=
mkfifo "$made/commands"
target/debug/simulated-site <"$made/commands" >"$made/told" --line "$made/line,9600,E,1,3:pressure-transmitter,4:ultrasonic-flow-meter,5:water-level-gauge" &
units=$!
exec 9>"$made/commands"
cat >&9 <<'FAULTS'
fault 0 3 late 0.1
late 0 3 450
fault 0 4 drop 0.05
fault 0 4 flip 0.05
fault 0 4 garbage 0.05
fault 0 5 exception 0.2
fault 0 5 truncated 0.1
FAULTS
until [ "$(grep -c ok "$made/told")" = 7 ]; do sleep 0.1; done

# Without learned.json: what was learnt before is not in a trace. The broker is nowhere; what is drained is not waited for.
sed "s#/dev/ttyUSB0#$made/line#; s#\"data\"#\"$made/data\"#; s#\.\./\.\./\.\./configs#$PWD/configs#" "$traces/pump-house.toml" >"$made/site.toml"
timeout -s KILL 32 target/debug/ganglion run --config "$made/site.toml" --trace "$made/trace" 2>"$made/log" || true
# The last line may be half a line.
awk 'NR == 1 || $1 < 30.5' "$made/trace" >"$traces/pump-house.trace"
UPDATE_EXPECTED=1 cargo test -p ganglion --test tools trace
