// What each client does with the server: list and call every tool, read every resource, hear progress, cancel a wait.
import assert from "node:assert/strict";
import Ajv2020 from "ajv/dist/2020.js";

const TOOLS = [
  "get_time",
  "get_daemon_status",
  "get_time_with_future_uncertainty",
  "schedule_action",
  "synchronize_with_peers",
  "get_time_bounds",
  "wait_until_time",
];

function argumentsFor(now) {
  const peer = { peer_id: "b", corrected_time: now, uncertainty: 30, vector_clock: { b: 1 } };
  return {
    get_time: {},
    get_daemon_status: {},
    get_time_with_future_uncertainty: { future_seconds: 300 },
    schedule_action: { target_corrected_time: now + 3600, action_id: "backup" },
    synchronize_with_peers: { peer_times: [peer] },
    get_time_bounds: { duration_seconds: 60 },
    wait_until_time: { target_corrected_time: now + 1, tolerance_ms: 50 },
  };
}

/** `call(name, arguments, options)` hides how the two major versions differ. */
export async function exercise(client, call) {
  const { tools } = await client.listTools();
  assert.deepEqual(tools.map((tool) => tool.name), TOOLS);
  const ajv = new Ajv2020({ strict: false });
  for (const tool of tools) {
    assert.equal(tool.annotations.readOnlyHint, tool.name !== "schedule_action");
    const now = (await call("get_time", {})).structuredContent.corrected_time;
    let reports = 0;
    const result = await call(tool.name, argumentsFor(now)[tool.name], { onprogress: () => reports++ });
    const valid = ajv.compile(tool.outputSchema);
    assert.ok(valid(result.structuredContent), JSON.stringify(valid.errors));
    assert.deepEqual(JSON.parse(result.content[0].text), result.structuredContent);
    assert.ok(!result.isError && !("error" in result.structuredContent), JSON.stringify(result));
    assert.equal(reports > 0, tool.name === "wait_until_time");
  }
  const wrong = await call("get_time_bounds", { duration_seconds: -1 });
  assert.equal(wrong.isError, true);
  assert.equal(wrong.structuredContent.code, "invalid_argument");

  const { resources } = await client.listResources();
  assert.deepEqual(resources.map((resource) => resource.uri), ["clock://now", "clock://status"]);
  const { contents } = await client.readResource({ uri: "clock://status" });
  assert.equal(JSON.parse(contents[0].text).clock_status, "synchronized");

  const stop = new AbortController();
  const target = (await call("get_time", {})).structuredContent.corrected_time + 3600;
  const wait = call("wait_until_time", { target_corrected_time: target }, { signal: stop.signal, onprogress: () => stop.abort() });
  await assert.rejects(wait);
  assert.ok(!(await call("get_time", {})).isError);
}

/** The transport that the command line names: `stdio COMMAND ARGUMENT...` or `http URL`. */
export function transportOf([kind, ...rest], Stdio, Http) {
  if (kind === "http") return new Http(new URL(rest[0]));
  const [command, ...args] = rest;
  return new Stdio({ command, args, env: process.env, stderr: "inherit" });
}
