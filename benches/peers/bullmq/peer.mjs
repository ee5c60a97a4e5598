// BullMQ over Redis: the work of benches/peers, for one queue and one worker in one process.
//
// Producer and worker do not run at once while creates are measured.

import { readFileSync, writeFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { Queue, Worker } from 'bullmq';

const work = JSON.parse(readFileSync(process.argv[2], 'utf8'));
const connection = { path: work.endpoint, maxRetriesPerRequest: null };
const payload = 'x'.repeat(work.payload_bytes);
const DAY_MS = 86_400_000;

/** The system clock in milliseconds, with a fraction. */
const nowMs = () => performance.timeOrigin + performance.now();

const far = () => ({ name: 'far', data: { payload }, opts: { delay: DAY_MS } });

/** A job counts its delay from its timestamp, so that giving both makes the due time exact. */
function at(dueMs) {
  const timestamp = Date.now();
  return { name: 'near', data: { dueMs, payload }, opts: { timestamp, delay: dueMs - timestamp } };
}

async function perSecond(count, task) {
  const begin = performance.now();
  await task();
  return count / ((performance.now() - begin) / 1000);
}

/** Creates timers, lets a worker run until the last has fired, and returns how late each was. */
async function fireAll(queue, offsetsMs) {
  if (offsetsMs.length === 0) return [];
  const startMs = Date.now() + work.lead_ms;
  for (let i = 0; i < offsetsMs.length; i += work.batch) {
    await queue.addBulk(offsetsMs.slice(i, i + work.batch).map((offsetMs) => at(startMs + offsetMs)));
  }
  const fires = [];
  let ended;
  const allFired = new Promise((resolve) => { ended = resolve; });
  const handler = async (job) => {
    fires.push(nowMs() - job.data.dueMs);
    if (fires.length === offsetsMs.length) ended();
  };
  const worker = new Worker(queue.name, handler, { connection, concurrency: work.concurrency });
  worker.on('error', (error) => console.error(error));
  await worker.waitUntilReady();
  if (Date.now() >= startMs) throw new Error('creating took longer than the lead: raise it in run.py');
  await allFired;
  await worker.close();
  return fires;
}

const queue = new Queue('peers', { connection });
await queue.waitUntilReady();
const results = { version: `BullMQ ${createRequire(import.meta.url)('bullmq/package.json').version}, Node ${process.version}` };
results.create_single_per_s = await perSecond(work.create_single, async () => {
  for (let i = 0; i < work.create_single; i++) {
    const { name, data, opts } = far();
    await queue.add(name, data, opts);
  }
});
results.create_batch_per_s = await perSecond(work.create_batches * work.batch, async () => {
  for (let i = 0; i < work.create_batches; i++) await queue.addBulk(Array.from({ length: work.batch }, far));
});
results.herd_ms = await fireAll(queue, new Array(work.herd).fill(0));
results.lateness_ms = await fireAll(queue, work.offsets_ms);
await queue.close();
// Written at once: what goes to a pipe through console.log is lost at an exit.
writeFileSync(1, `${JSON.stringify(results)}\n`);
process.exit(0);
