import assert from "node:assert/strict";
import { once } from "node:events";
import { afterEach, beforeEach, test } from "node:test";

import { create, fromBinary, toBinary } from "@bufbuild/protobuf";
import { Server, ServerCredentials, status, type ServerWritableStream, type sendUnaryData } from "@grpc/grpc-js";

import { Transport } from "#dist/transport";
import { IDLE_CONNECTIONS_MAX, WATCHES_PER_CONNECTION, WatchConnections } from "#dist/watch-connections";
import { Client, type WatchEvent } from "perdure";
import {
  GetInstanceResponseSchema,
  WatchEndReason,
  WatchInstanceRequestSchema,
  WatchInstanceResponseSchema,
} from "perdure/v1/instance_service_pb";

const WATCHES = 1_000;
const STREAMS_MAX = 128;
const PATH = "/perdure.v1.InstanceService";

type Stream = ServerWritableStream<Buffer, Buffer>;

// A server that accepts few streams per connection. A watch gets a snapshot and stays open until `end`.
let server: Server;
let client: Client;
let open: Set<Stream>;
let failures: number; // number of watches that fail from now on
const bytes = (body: Uint8Array) => Buffer.from(body);
const raw = { requestDeserialize: bytes, responseSerialize: bytes, requestSerialize: bytes, responseDeserialize: bytes };

function encoded(event: Parameters<typeof create<typeof WatchInstanceResponseSchema>>[1]): Buffer {
  return bytes(toBinary(WatchInstanceResponseSchema, create(WatchInstanceResponseSchema, event)));
}

beforeEach(async () => {
  open = new Set();
  failures = 0;
  server = new Server({ "grpc.max_concurrent_streams": STREAMS_MAX });
  server.register(
    `${PATH}/WatchInstance`,
    (stream: Stream) => {
      fromBinary(WatchInstanceRequestSchema, stream.request);
      if (failures > 0) {
        failures--;
        stream.emit("error", { code: status.UNAVAILABLE, details: "restarting" });
        return;
      }
      open.add(stream.on("cancelled", () => open.delete(stream)));
      stream.write(encoded({ event: { case: "snapshot", value: { instanceId: "i1", revision: 1n } } }));
    },
    raw.responseSerialize,
    raw.requestDeserialize,
    "serverStream",
  );
  server.register(
    `${PATH}/GetInstance`,
    (_: unknown, respond: sendUnaryData<Buffer>) =>
      respond(null, bytes(toBinary(GetInstanceResponseSchema, create(GetInstanceResponseSchema, { instance: {} })))),
    raw.responseSerialize,
    raw.requestDeserialize,
    "unary",
  );
  const port = await new Promise<number>((resolve, reject) =>
    server.bindAsync("127.0.0.1:0", ServerCredentials.createInsecure(), (failed, bound) =>
      failed === null ? resolve(bound) : reject(failed),
    ),
  );
  client = new Client(`127.0.0.1:${port}`);
});

afterEach(() => {
  client.close();
  server.forceShutdown();
});

function connections(): readonly number[] {
  return (client as unknown as { transport: Transport }).transport.watches;
}

function breakStreams(): void {
  for (const stream of open) stream.emit("error", { code: status.UNAVAILABLE, details: "lost" });
  open.clear();
}

function end(): void {
  const event = { revision: 1n, reason: WatchEndReason.INSTANCE_ENDED };
  for (const stream of open) {
    stream.write(encoded({ event: { case: "end", value: event } }));
    stream.end();
  }
}

test("calls succeed while 1,000 watches are open", async () => {
  const watches = Array.from({ length: WATCHES }, () => client.watchInstance("i1"));
  const firsts = await Promise.all(watches.map((watch) => watch.next()));
  const counts = [...connections()];

  for (let call = 0; call < 20; call++) await client.getInstance("i1");
  end();
  const lasts = await Promise.all(watches.map((watch) => watch.next()));
  await Promise.all(watches.map((watch) => watch.next()));

  assert.ok(firsts.every(({ value }) => (value as WatchEvent).type === "snapshot"));
  assert.ok(lasts.every(({ value }) => (value as WatchEvent).type === "end"));
  assert.deepEqual(counts, Array(WATCHES / WATCHES_PER_CONNECTION).fill(WATCHES_PER_CONNECTION));
  assert.deepEqual(connections(), Array(IDLE_CONNECTIONS_MAX).fill(0));
});

test("a watch that the caller leaves is cancelled on the server", async () => {
  const watch = client.watchInstance("i1");
  await watch.next();
  const [stream] = [...open];
  const cancelled = once(stream!, "cancelled");

  await watch.return();
  await cancelled;

  assert.deepEqual(connections(), [0]);
});

test("a closed client ends its watches and rejects new ones", async () => {
  const watch = client.watchInstance("i1");
  await watch.next();
  const waiting = watch.next();

  client.close();

  await assert.rejects(waiting);
  await assert.rejects(client.watchInstance("i1").next(), /the client is closed/);
  assert.deepEqual(connections(), []);
});

test("a watch continues on a new stream after a broken one", async () => {
  const watch = client.watchInstance("i1", { reconnectTimeoutMs: 60_000 });
  await watch.next();
  breakStreams();

  const { value } = await watch.next();

  assert.equal((value as WatchEvent).type, "snapshot");
  assert.deepEqual(connections(), [1]);
  await watch.return();
});

test("a disconnect and the reconnect are reported once each", async () => {
  const impatient = new Client(client.target, { retry: { initialBackoffMs: 1 } });
  const reports: string[] = [];
  const watch = impatient.watchInstance("i1", {
    onDisconnect: (error) => reports.push(`${error.code} ${error.message}`),
    onReconnect: () => reports.push("reconnected"),
  });
  await watch.next();

  breakStreams(); // a connection that is restored at once is not reported
  await watch.next();
  assert.deepEqual(reports, []);

  failures = 3;
  breakStreams();
  await watch.next();
  assert.deepEqual(reports, ["UNAVAILABLE restarting", "reconnected"]);
  await watch.return();
  impatient.close();
});

test("a watch uses the first connection with room", () => {
  let made = 0;
  const closed: number[] = [];
  const pool = new WatchConnections(() => {
    const number = made++;
    return { number, close: () => void closed.push(number) };
  });
  const seats = Array.from({ length: 2 * WATCHES_PER_CONNECTION }, () => pool.acquire());

  pool.release(seats[0]!);
  assert.equal(pool.acquire().channel.number, 0);
  const third = pool.acquire();
  assert.deepEqual(pool.watches, [WATCHES_PER_CONNECTION, WATCHES_PER_CONNECTION, 1]);
  pool.release(third);
  assert.deepEqual(closed, []);
  for (const seat of seats.slice(WATCHES_PER_CONNECTION)) pool.release(seat);
  assert.deepEqual(closed, [1]);
  pool.close();
  assert.deepEqual(closed, [1, 0, 2]);
});
