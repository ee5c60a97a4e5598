// What each client does with the server: every tool with its result held to the output schema, errors, resources, a
// subscription, prompts, progress, and a question to the user.
import assert from "node:assert/strict";
import Ajv2020 from "ajv/dist/2020.js";

const TOOLS = [
  "timer_create", "timer_wait", "timer_reschedule", "timer_cancel", "timers_cancel", "timer_list", "timer_get",
  "timer_history", "timer_explain", "timer_pause", "timer_resume", "timer_fire", "create_timer", "get_timer",
  "list_timers", "delete_timer", "quick_wait", "broadcast_to_team", "agent_coordination_session", "check_api_health",
];

/** Keeps what comes, and hands it to whoever waits for it. */
export class Inbox {
  #kept = [];
  #waiting = [];

  put(item) {
    const next = this.#waiting.shift();
    if (next) next(item);
    else this.#kept.push(item);
  }

  next() {
    if (this.#kept.length > 0) return Promise.resolve(this.#kept.shift());
    return new Promise((resolve) => this.#waiting.push(resolve));
  }
}

/** The user of every client here: agrees, and keeps the questions. */
export const user = {
  questions: [],
  answer(request) {
    user.questions.push(request.params.message);
    return { action: "accept", content: { confirm: true } };
  },
};

/**
 * `call(name, arguments, options)` and `subscribe(uri)` hide how the two major versions differ; `updates` has the uris that
 * the client is told of.
 */
export async function exercise(client, { call, subscribe, updates }) {
  const { tools } = await client.listTools();
  assert.deepEqual(tools.map((tool) => tool.name), TOOLS);
  const ajv = new Ajv2020({ strict: false });
  const schemas = new Map(tools.map((tool) => [tool.name, ajv.compile(tool.outputSchema)]));
  const called = new Set();
  async function good(name, args = {}, options = undefined) {
    const result = await call(name, args, options);
    assert.ok(!result.isError, JSON.stringify(result));
    const valid = schemas.get(name);
    assert.ok(valid(result.structuredContent), `${name}: ${JSON.stringify(valid.errors)}`);
    assert.deepEqual(JSON.parse(result.content[0].text), result.structuredContent);
    called.add(name);
    return result.structuredContent;
  }

  const team = `team-${process.pid}`;
  const { id } = await good("timer_create", { name: "tea", every: "1h", team, agent: "kettle" });
  assert.equal((await good("timer_get", { id })).state, "scheduled");
  assert.equal((await good("timer_pause", { id, reason: "lunch" })).state, "paused");
  assert.equal((await good("timer_explain", { id })).verdict, "paused");
  assert.equal((await good("timer_resume", { id })).state, "scheduled");
  assert.ok((await good("timer_reschedule", { id, after: "2h" })).due_at);
  assert.deepEqual((await good("timer_list", { team })).timers.map((timer) => timer.id), [id]);

  const uri = `timer://${id}`;
  const unsubscribe = await subscribe(uri);
  await good("timer_fire", { id });
  for (;;) {
    assert.equal(await updates.next(), uri);
    const { contents } = await client.readResource({ uri });
    assert.equal(contents[0].mimeType, "application/json");
    if (JSON.parse(contents[0].text).fires === 1) break;
  }
  await unsubscribe();
  assert.deepEqual((await good("timer_history", { id })).entries.map((entry) => entry.by_hand), [true]);

  const short = await good("timer_create", { name: "short", after: "300ms" });
  let reports = 0;
  const waited = await good("timer_wait", { id: short.id }, { onprogress: () => reports++ });
  assert.equal(waited.state, "completed");
  assert.ok(reports > 0);

  const old = await good("create_timer", { name: "old", duration: "1h", team, message: "m" });
  assert.equal((await good("get_timer", { timer_id: old.id })).metadata.message, "m");
  assert.equal((await good("list_timers", { team, status: "running" })).timers.length, 2);
  assert.equal((await good("delete_timer", { timer_id: old.id })).state, "cancelled");
  assert.equal((await good("quick_wait", { duration: 100 })).state, "completed");
  await good("broadcast_to_team", { team, message: "hello" });
  assert.equal((await good("agent_coordination_session", { session_name: "s", agents: ["a", "b"] })).timers.length, 2);
  assert.equal((await good("check_api_health")).status, "ok");

  const done = await good("timers_cancel", { team, state: "scheduled" });
  assert.deepEqual([done.matches, done.cancelled, done.note], [1, 1, null]);
  assert.deepEqual(user.questions, [`Cancel 1 timers (team "${team}", state "scheduled")?`]);
  const last = await good("timer_create", { name: "last", after: "1h" });
  assert.equal((await good("timer_cancel", { id: last.id, reason: "over" })).cancel_reason, "over");
  assert.deepEqual([...called].sort(), [...TOOLS].sort());

  const missing = "01900000-0000-7000-8000-000000000000";
  for (const [name, args, code] of [
    ["timer_get", { id: missing }, "timer_not_found"],
    ["timer_create", { name: "n" }, "invalid_schedule"],
    ["timer_get", {}, "invalid_arguments"],
  ]) {
    const refused = await call(name, args);
    assert.equal(refused.isError, true);
    assert.equal(refused.structuredContent.code, code);
    assert.ok(refused.structuredContent.detail);
  }

  const { resourceTemplates } = await client.listResourceTemplates();
  assert.deepEqual(resourceTemplates.map((template) => template.uriTemplate), ["timer://{id}"]);
  assert.ok((await client.listResources()).resources.every((resource) => resource.uri.startsWith("timer://")));
  await assert.rejects(client.readResource({ uri: `timer://${missing}` }));
  const { prompts } = await client.listPrompts();
  assert.deepEqual(
    prompts.map((prompt) => prompt.name),
    ["plan-a-reminder", "investigate-late-timer", "coordinate-agents"],
  );
  const prompt = await client.getPrompt({ name: "investigate-late-timer", arguments: { id } });
  assert.ok(prompt.messages[0].content.text.includes(id));

  const stop = new AbortController();
  const far = await good("timer_create", { name: "far", after: "1h" });
  await assert.rejects(call("timer_wait", { id: far.id }, { signal: stop.signal, onprogress: () => stop.abort() }));
  assert.equal((await good("timer_cancel", { id: far.id })).state, "cancelled");
}

/** The transport that the command line names: `stdio COMMAND ARGUMENT...` or `http URL`. */
export function transportOf([kind, ...rest], Stdio, Http) {
  if (kind === "http") return new Http(new URL(rest[0]));
  const [command, ...args] = rest;
  return new Stdio({ command, args, env: process.env, stderr: "inherit" });
}
