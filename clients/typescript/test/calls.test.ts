import assert from "node:assert/strict";
import { once } from "node:events";
import { createServer, type AddressInfo, type Server, type Socket } from "node:net";
import { afterEach, beforeEach, test } from "node:test";

import { Client, DeadlineExceededError, InvalidFieldError, UnavailableError } from "perdure";

// It takes connections and never says a word: the server that hangs.
let silent: Server;
let client: Client;
const sockets = new Set<Socket>();

beforeEach(async () => {
  silent = createServer((socket) => sockets.add(socket.on("error", () => undefined))).listen(0, "127.0.0.1");
  await once(silent, "listening");
  client = new Client(`127.0.0.1:${(silent.address() as AddressInfo).port}`);
});

afterEach(() => {
  client.close();
  silent.close();
  for (const socket of sockets) socket.destroy();
  sockets.clear();
});

test("an abort ends a call at once, with its own reason", async () => {
  const stop = new AbortController();
  const call = client.getInstance("i1", { signal: stop.signal });
  await once(silent, "connection");
  stop.abort(new Error("enough"));
  await assert.rejects(call, /enough/);
  await assert.rejects(client.getInstance("i1", { signal: stop.signal }), /enough/);
});

test("an abort ends a watch at once, with its own reason", async () => {
  const stop = new AbortController();
  const watch = client.watchInstance("i1", { signal: stop.signal });
  const event = watch.next();
  await once(silent, "connection");
  stop.abort(new Error("enough"));
  await assert.rejects(event, /enough/);
  assert.deepEqual(await watch.next(), { done: true, value: undefined });
});

test("a call ends with its deadline and tells its request id", async () => {
  const call = client.startInstance("order", {}, { timeoutMs: 50, requestId: "r1" });
  await assert.rejects(call, (error) => error instanceof DeadlineExceededError && error.requestId === "r1");
});

test("a server that nobody runs is retried until the deadline, or not at all", async () => {
  const nobody = new Client("127.0.0.1:1", { timeoutMs: 300 });
  await assert.rejects(nobody.startInstance("order"), UnavailableError);
  await assert.rejects(nobody.watchInstance("i1").next(), UnavailableError);
  await assert.rejects(nobody.checkHealth(), UnavailableError);
  nobody.close();
});

test("a closed client says so, also to the calls that it cuts off", async () => {
  const call = client.getInstance("i1");
  await once(silent, "connection");
  client.close();
  await assert.rejects(call, /the client is closed/);
  await assert.rejects(client.getInstance("i1"), /the client is closed/);
});

test("what the wire cannot carry is refused before it is sent", async () => {
  await assert.rejects(client.resume("i1", "\ud800"), InvalidFieldError);
  await assert.rejects(client.scheduleResume("i1", "a", 1.5), InvalidFieldError);
  await assert.rejects(client.scheduleResume("i1", "a", 2n ** 63n), InvalidFieldError);
  await assert.rejects(client.startInstance("order", {}, { version: -1 }), InvalidFieldError);
  await assert.rejects(client.startInstance("order", { a: NaN }), InvalidFieldError);
  assert.throws(() => client.listInstances({ states: ["NEW" as never] }), InvalidFieldError);
});
