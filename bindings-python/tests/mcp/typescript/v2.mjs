// The client of @modelcontextprotocol/client 2.x, held to revision 2026-07-28.
import { Client, StreamableHTTPClientTransport } from "@modelcontextprotocol/client";
import { StdioClientTransport } from "@modelcontextprotocol/client/stdio";
import { exercise, transportOf } from "./exercise.mjs";

const REVISION = "2026-07-28";
const client = new Client({ name: "test", version: "1" }, { versionNegotiation: { mode: { pin: REVISION } } });
await client.connect(transportOf(process.argv.slice(2), StdioClientTransport, StreamableHTTPClientTransport));
await exercise(client, (name, args, options) => client.callTool({ name, arguments: args }, options));
const subscription = await client.listen({ resourceSubscriptions: ["clock://status"] });
await subscription.close();
await client.close();
console.log(`ok ${REVISION}`);
