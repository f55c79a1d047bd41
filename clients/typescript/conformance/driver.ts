/**
 * Conformance driver. Reads requests as JSON lines and writes one JSON line for each, in order. It only translates: the
 * expected results are in tests/conformance.
 */

import { createInterface } from "node:readline";

import * as perdure from "perdure";

import { kindOf, Watch } from "./watch.js";

type Args = Readonly<Record<string, unknown>>;
type Operation = (args: Args) => Promise<object>;

let open: perdure.Client | undefined;
const watches = new Map<string, Watch>();

function client(): perdure.Client {
  if (open === undefined) throw new Error("not connected; call connect first");
  return open;
}

// --- arguments ---------------------------------------------------------------------------------------------------
// Values of wrong types are passed on, because the scenarios test the client's response to them.

const text = (args: Args, name: string) => args[name] as string;
const number = (args: Args, name: string) => args[name] as number | undefined;
const labels = (args: Args) => args["labels"] as Record<string, string> | undefined;
const requestId = (args: Args) => ({ requestId: args["request_id"] as string | undefined });

function raw(args: Args, name: string): perdure.RawJson | undefined {
  return args[name] === undefined || args[name] === null ? undefined : new perdure.RawJson(text(args, name));
}

async function all<T>(items: AsyncIterable<T>): Promise<T[]> {
  const found: T[] = [];
  for await (const item of items) found.push(item);
  return found;
}

// --- operations --------------------------------------------------------------------------------------------------

const OPERATIONS: Readonly<Record<string, Operation>> = {
  async connect(args) {
    open?.close();
    const [ca, cert, key] = ["ca", "cert", "key"].map((name) => (args[name] ?? undefined) as string | undefined);
    const tls = ca ?? cert ?? key ? { ca, cert, key } : undefined;
    open = new perdure.Client(text(args, "target"), { tls });
    return {};
  },

  async start_instance(args) {
    const started = await client().startInstance(text(args, "workflow"), raw(args, "context"), {
      ...requestId(args),
      instanceId: text(args, "instance_id"),
      version: number(args, "version"),
      businessKey: text(args, "business_key"),
      conflictPolicy: args["conflict_policy"] as perdure.ConflictPolicy | undefined,
      startDelayMs: number(args, "start_delay_ms"),
      labels: labels(args),
    });
    const { instanceId, created, version, revision } = started;
    return { instance_id: instanceId, created, version, revision };
  },

  async resume(args) {
    const { disposition, stepRef, revision } = await client().resume(
      text(args, "instance_id"),
      text(args, "event"),
      raw(args, "payload"),
      { ...requestId(args), stepRef: text(args, "step_ref"), buffer: args["buffer"] as boolean | undefined },
    );
    return { disposition, step_ref: stepRef, revision };
  },

  async schedule_resume(args) {
    const { reference, revision } = await client().scheduleResume(
      text(args, "instance_id"),
      text(args, "step_ref"),
      number(args, "delay_ms") ?? 0,
      requestId(args),
    );
    return { reference, revision };
  },

  async get_instance(args) {
    const instance = await client().getInstance(text(args, "instance_id"));
    const { error } = instance;
    return {
      instance_id: instance.instanceId,
      workflow: instance.workflow,
      version: instance.version,
      state: instance.state,
      revision: instance.revision,
      input: instance.inputJson,
      outputs: instance.outputsJson,
      active_steps: instance.activeSteps.map(({ stepRef, state, attempt, events }) => {
        return { step_ref: stepRef, state, attempt, events };
      }),
      step_results: instance.stepResults.map(({ stepRef, state, event }) => ({ step_ref: stepRef, state, event })),
      error: error
        ? { step_ref: error.stepRef, type: error.type, message: error.message, attempts: error.attempts }
        : null,
      labels: instance.labels,
      business_key: instance.businessKey,
    };
  },

  async list_instances(args) {
    const filter: perdure.InstanceFilter = {
      states: args["states"] as perdure.InstanceFilter["states"],
      workflow: text(args, "workflow"),
      labels: labels(args),
      businessKey: text(args, "business_key"),
      pageSize: number(args, "page_size"),
      version: number(args, "version"),
      unconsumedEvents: args["unconsumed_events"] as boolean | undefined,
    };
    const found = await all(client().listInstances(filter));
    return {
      instances: found.map(({ instanceId, state, revision, inboxSize }) => ({
        instance_id: instanceId,
        state,
        revision,
        inbox_size: inboxSize,
      })),
    };
  },

  async list_history(args) {
    const options = { afterRevision: number(args, "after_revision"), pageSize: number(args, "page_size") };
    const entries = await all(client().listHistory(text(args, "instance_id"), options));
    return {
      entries: entries.map(({ revision, kind, fact }) => ({
        revision,
        kind: kindOf(kind),
        ...("stepRef" in fact && fact.stepRef !== "" ? { step_ref: fact.stepRef } : {}),
        ...("event" in fact ? { event: fact.event } : {}),
      })),
    };
  },

  async cancel_instance(args) {
    const options = { ...requestId(args), reason: text(args, "reason") };
    return client().cancelInstance(text(args, "instance_id"), options);
  },

  async retry_instance(args) {
    return client().retryInstance(text(args, "instance_id"), requestId(args));
  },

  async get_timer(args) {
    return timer(await client().getTimer(text(args, "reference")));
  },

  async list_timers(args) {
    return { timers: (await all(client().listTimers(text(args, "instance_id")))).map(timer) };
  },

  async cancel_timer(args) {
    return client().cancelTimer(text(args, "reference"), requestId(args));
  },

  async fire_timer(args) {
    return client().fireTimer(text(args, "reference"), requestId(args));
  },

  async backup_database(args) {
    const { path, sizeBytes, instances, snapshotTime } = await client().backupDatabase(text(args, "file_name"));
    return { path, size: sizeBytes > 0, instances: instances > 0, snapshot: snapshotTime !== undefined };
  },

  async get_workflow(args) {
    const found = await client().getWorkflow(text(args, "workflow"), number(args, "version"));
    const { name, version, digest, start } = found;
    return { name, version, digest, start, steps: found.steps.map((step) => step.stepRef) };
  },

  async list_workflows() {
    const found = await all(client().listWorkflows());
    return { workflows: found.map(({ name, version }) => ({ name, version })) };
  },

  async watch_open(args) {
    const name = text(args, "watch");
    await watches.get(name)?.close();
    const watch = new Watch(client(), text(args, "instance_id"), number(args, "after_revision"));
    watches.set(name, watch);
    await watch.opened();
    return {};
  },

  async watch_next(args) {
    const watch = watches.get(text(args, "watch"));
    if (watch === undefined) throw new Error(`watch '${text(args, "watch")}' is not open`);
    return watch.next(number(args, "timeout_ms") ?? 10_000);
  },

  async watch_close(args) {
    const name = text(args, "watch");
    await watches.get(name)?.close();
    watches.delete(name);
    return {};
  },

  async close() {
    await Promise.all([...watches.values()].map((watch) => watch.close()));
    watches.clear();
    open?.close();
    open = undefined;
    return {};
  },
};

function timer({ reference, stepRef, kind }: perdure.Timer): object {
  return { reference, step_ref: stepRef, kind };
}

// --- responses ---------------------------------------------------------------------------------------------------

function fieldsOf(error: unknown): object {
  if (!(error instanceof perdure.PerdureError))
    // A bug of the driver or of a scenario, not a response of the server.
    return { reason: "", code: "DRIVER", message: String(error), metadata: {}, violations: [] };
  const { reason, code, message, metadata, violations } = error;
  return { reason, code, message, metadata, violations };
}

async function respond(line: string): Promise<{ readonly reply: object; readonly last: boolean }> {
  const { id, op, args } = perdure.parseJson(line) as { id: number; op: string; args?: Args };
  try {
    const operation = OPERATIONS[op];
    if (operation === undefined) throw new Error(`unknown operation '${op}'`);
    return { reply: { id, ok: await operation(args ?? {}) }, last: op === "close" };
  } catch (error) {
    return { reply: { id, error: fieldsOf(error) }, last: false };
  }
}

for await (const line of createInterface({ input: process.stdin, crlfDelay: Infinity })) {
  if (line.trim() === "") continue;
  const { reply, last } = await respond(line);
  process.stdout.write(`${perdure.encodeJson(reply)}\n`);
  if (last) break;
}
open?.close();
// Open handles, such as a paused stdin, must not keep the process running.
process.stdout.write("", () => process.exit(0));
