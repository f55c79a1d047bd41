import assert from "node:assert/strict";
import { once } from "node:events";
import { createServer, type AddressInfo, type Server, type Socket } from "node:net";
import { afterEach, beforeEach, test } from "node:test";

import { Client, DeadlineExceededError, InvalidFieldError, UnavailableError } from "perdure";

// A server that accepts connections and never responds.
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

test("an aborted call rejects with the reason of its signal", async () => {
  const stop = new AbortController();
  const call = client.getInstance("i1", { signal: stop.signal });
  await once(silent, "connection");
  stop.abort(new Error("enough"));
  await assert.rejects(call, /enough/);
  await assert.rejects(client.getInstance("i1", { signal: stop.signal }), /enough/);
});

test("an aborted watch throws the reason of its signal", async () => {
  const stop = new AbortController();
  const watch = client.watchInstance("i1", { signal: stop.signal });
  const event = watch.next();
  await once(silent, "connection");
  stop.abort(new Error("enough"));
  await assert.rejects(event, /enough/);
  assert.deepEqual(await watch.next(), { done: true, value: undefined });
});

test("the error of a call that timed out has the request ID", async () => {
  const call = client.startInstance("order", {}, { timeoutMs: 50, requestId: "r1" });
  await assert.rejects(call, (error) => error instanceof DeadlineExceededError && error.requestId === "r1");
});

test("an unreachable server is UNAVAILABLE", async () => {
  const unreachable = new Client("127.0.0.1:1", { timeoutMs: 300 });
  await assert.rejects(unreachable.startInstance("order"), UnavailableError);
  await assert.rejects(unreachable.watchInstance("i1").next(), UnavailableError);
  await assert.rejects(unreachable.checkHealth(), UnavailableError);
  unreachable.close();
});

test("a closed client rejects calls, including those in progress", async () => {
  const call = client.getInstance("i1");
  await once(silent, "connection");
  client.close();
  await assert.rejects(call, /the client is closed/);
  await assert.rejects(client.getInstance("i1"), /the client is closed/);
});

test("a value that cannot be sent is rejected by the client", async () => {
  await assert.rejects(client.resume("i1", "\ud800"), InvalidFieldError);
  await assert.rejects(client.scheduleResume("i1", "a", 1.5), InvalidFieldError);
  await assert.rejects(client.scheduleResume("i1", "a", 2n ** 63n), InvalidFieldError);
  await assert.rejects(client.startInstance("order", {}, { version: -1 }), InvalidFieldError);
  await assert.rejects(client.startInstance("order", { a: NaN }), InvalidFieldError);
  assert.throws(() => client.listInstances({ states: ["NEW" as never] }), InvalidFieldError);
});
