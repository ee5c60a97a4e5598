// The client of @modelcontextprotocol/client 2.x, held to revision 2026-07-28.
import { Client, StreamableHTTPClientTransport } from "@modelcontextprotocol/client";
import { StdioClientTransport } from "@modelcontextprotocol/client/stdio";
import { Inbox, exercise, transportOf, user } from "./exercise.mjs";

const REVISION = "2026-07-28";
const options = { capabilities: { elicitation: { form: {} } }, versionNegotiation: { mode: { pin: REVISION } } };
const client = new Client({ name: "test", version: "1" }, options);
const updates = new Inbox();
client.setRequestHandler("elicitation/create", (request) => user.answer(request));
client.setNotificationHandler("notifications/resources/updated", ({ params }) => updates.put(params.uri));
await client.connect(transportOf(process.argv.slice(2), StdioClientTransport, StreamableHTTPClientTransport));
await exercise(client, {
  call: (name, args, options) => client.callTool({ name, arguments: args }, options),
  async subscribe(uri) {
    const subscription = await client.listen({ resourceSubscriptions: [uri] });
    return () => subscription.close();
  },
  updates,
});
await client.close();
console.log(`ok ${REVISION}`);
