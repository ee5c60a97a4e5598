// The client of @modelcontextprotocol/sdk 1.x, which speaks revisions up to 2025-11-25.
import assert from "node:assert/strict";
import { Client } from "@modelcontextprotocol/sdk/client/index.js";
import { StdioClientTransport } from "@modelcontextprotocol/sdk/client/stdio.js";
import { StreamableHTTPClientTransport } from "@modelcontextprotocol/sdk/client/streamableHttp.js";
import { exercise, transportOf } from "./exercise.mjs";

const client = new Client({ name: "test", version: "1" });
await client.connect(transportOf(process.argv.slice(2), StdioClientTransport, StreamableHTTPClientTransport));
assert.equal(client.getServerVersion().name, "ChronoTick Time Server");
await exercise(client, (name, args, options) => client.callTool({ name, arguments: args }, undefined, options));
await client.subscribeResource({ uri: "clock://status" });
await client.unsubscribeResource({ uri: "clock://status" });
await client.close();
console.log("ok 2025-11-25");
