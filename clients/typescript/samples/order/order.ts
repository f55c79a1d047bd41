/**
 * Runs an order from start to end: npm start -- [HOST:PORT]. Requires a server: perdure serve examples/order.py
 *
 * Exits with 0 once the order is shipped.
 */

import { Client, PerdureError } from "perdure";

const client = new Client(process.argv[2] ?? "127.0.0.1:7420");

async function ship(): Promise<void> {
  const context = { items: ["lamp", "bulb"], total_cents: 4_900 };
  const { instanceId } = await client.startInstance("order", context, { labels: { sample: "typescript" } });
  console.log("started", instanceId);

  // With `buffer`, the events wait for steps that have not started yet.
  await client.resume(instanceId, "reserved", { shelf: "B4" }, { buffer: true });
  await client.resume(instanceId, "approved", { by: "Ada" }, { buffer: true });

  for await (const event of client.watchInstance(instanceId, { afterRevision: 0, timeoutMs: 30_000 })) {
    if (event.type !== "entry") continue;
    const { revision, kind, fact } = event.entry;
    console.log(revision, kind, "stepRef" in fact ? fact.stepRef : "");
    // The cooldown lasts 30 seconds. The sample fires its timer at once.
    if (kind === "timer_armed" && fact.stepRef === "cooldown") await client.fireTimer(fact.reference);
  }

  const { state, outputs } = await client.getInstance(instanceId);
  console.log(state, outputs["ship"]);
  if (state !== "COMPLETED") throw new Error(`order '${instanceId}' is ${state}`);
}

try {
  await ship();
} catch (error) {
  console.error(error instanceof PerdureError ? `${error.message} (${error.reason || error.code})` : error);
  if (error instanceof PerdureError && error.hint !== "") console.error(`hint: ${error.hint}`);
  process.exitCode = 1;
} finally {
  client.close();
}
