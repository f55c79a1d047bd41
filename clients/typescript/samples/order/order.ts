/**
 * An order from its start to its end: npm start -- [HOST:PORT], against `perdure serve examples/order.py`.
 *
 * Exits with 0 once the order is shipped.
 */

import { Client, PerdureError } from "perdure";

const client = new Client(process.argv[2] ?? "127.0.0.1:7420");

async function ship(): Promise<void> {
  const context = { items: ["lamp", "bulb"], total_cents: 4_900 };
  const { instanceId } = await client.startInstance("order", context, { labels: { sample: "typescript" } });
  console.log("started", instanceId);

  // `buffer`: the steps that wait for these may not have begun yet.
  await client.resume(instanceId, "reserved", { shelf: "B4" }, { buffer: true });
  await client.resume(instanceId, "approved", { by: "Ada" }, { buffer: true });

  for await (const event of client.watchInstance(instanceId, { afterRevision: 0, timeoutMs: 30_000 })) {
    if (event.type !== "entry") continue;
    const { revision, kind, fact } = event.entry;
    console.log(revision, kind, "stepRef" in fact ? fact.stepRef : "");
    // Nobody waits thirty seconds for a sample: the cooldown is over as soon as it begins.
    if (kind === "timer_armed" && fact.stepRef === "cooldown") await client.fireTimer(fact.reference);
  }

  const { state, outputs } = await client.getInstance(instanceId);
  console.log(state, outputs["ship"]);
  if (state !== "COMPLETED") throw new Error(`the order is ${state}`);
}

try {
  await ship();
} catch (error) {
  console.error(error instanceof PerdureError ? `${error.status} ${error.reason}: ${error.message}` : error);
  process.exitCode = 1;
} finally {
  client.close();
}
