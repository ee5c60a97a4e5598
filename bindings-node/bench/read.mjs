/**
 * Measures readings of the clock page against process.hrtime.bigint(), in paired batches.
 *
 *     node bench/read.mjs PAGE [ENDING]
 *
 * Prints one JSON line for each figure; ENDING is put behind their names. `scripts/bench-read.sh node` makes the page and
 * builds the package for it.
 */

import { ClockClient } from "../dist/index.mjs";

const BATCHES = 201;
const CALLS = 5000;

/** What the calls return, kept so that none of them is left out. */
let kept;

/** Nanoseconds for each call. */
function batch(call) {
  const start = process.hrtime.bigint();
  for (let i = 0; i < CALLS; i++) kept = call();
  return Number(process.hrtime.bigint() - start) / CALLS;
}

function median(values) {
  return values.sort((a, b) => a - b)[values.length >> 1];
}

function compare(name, subject) {
  const baseline = () => process.hrtime.bigint();
  const pairs = [];
  // The first batches are the compiler's.
  for (let i = -20; i < BATCHES; i++) {
    const pair = [batch(subject), batch(baseline)];
    if (i >= 0) pairs.push(pair);
  }
  const figure = {
    name: name + ending,
    value: median(pairs.map((pair) => pair[0])),
    unit: "ns",
    baseline: "process.hrtime.bigint()",
    baseline_value: median(pairs.map((pair) => pair[1])),
    ratio: median(pairs.map((pair) => pair[0] / pair[1])),
  };
  console.log(JSON.stringify(figure, (_, value) => (typeof value === "number" ? Math.round(value * 1000) / 1000 : value)));
}

const [path, ending = ""] = process.argv.slice(2);
if (path === undefined) {
  console.error("usage: node bench/read.mjs PAGE [ENDING]");
  process.exit(2);
}
const clock = ClockClient.attach(path);
compare("read.node.ms", () => clock.nowMs());
compare("read.node.ns", () => clock.nowNs());
compare("read.node.full", () => clock.now());
if (kept === undefined) throw new Error("nothing was read");
