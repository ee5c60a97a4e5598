// The client of @modelcontextprotocol/sdk 1.x, which speaks revisions up to 2025-11-25.
import assert from "node:assert/strict";
import { Client } from "@modelcontextprotocol/sdk/client/index.js";
import { StdioClientTransport } from "@modelcontextprotocol/sdk/client/stdio.js";
import { StreamableHTTPClientTransport } from "@modelcontextprotocol/sdk/client/streamableHttp.js";
import { ElicitRequestSchema, ResourceUpdatedNotificationSchema } from "@modelcontextprotocol/sdk/types.js";
import { Inbox, exercise, transportOf, user } from "./exercise.mjs";

const client = new Client({ name: "test", version: "1" }, { capabilities: { elicitation: {} } });
const updates = new Inbox();
client.setRequestHandler(ElicitRequestSchema, (request) => user.answer(request));
client.setNotificationHandler(ResourceUpdatedNotificationSchema, ({ params }) => updates.put(params.uri));
await client.connect(transportOf(process.argv.slice(2), StdioClientTransport, StreamableHTTPClientTransport));
assert.equal(client.getServerVersion().name, "minoots-timer-system");
await exercise(client, {
  call: (name, args, options) => client.callTool({ name, arguments: args }, undefined, options),
  async subscribe(uri) {
    await client.subscribeResource({ uri });
    return () => client.unsubscribeResource({ uri });
  },
  updates,
});
await client.close();
console.log("ok 2025-11-25");
