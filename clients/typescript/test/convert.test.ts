import assert from "node:assert/strict";
import { test } from "node:test";

import { create, fromBinary } from "@bufbuild/protobuf";
import { BinaryWriter, WireType } from "@bufbuild/protobuf/wire";

import { entryOf, instanceOf } from "#dist/convert";
import { isLoopback } from "#dist/channel";
import { Watching } from "#dist/watch";
import { HistoryEntrySchema } from "perdure/v1/history_pb";
import { InstanceSchema, WatchInstanceResponseSchema } from "perdure/v1/instance_service_pb";

const unknownFact = new BinaryWriter()
  .tag(1, WireType.Varint)
  .int64(7)
  .tag(99, WireType.LengthDelimited)
  .bytes(Uint8Array.of(8, 1))
  .finish();

test("a fact of a kind that is new is passed over, its revision kept", () => {
  const entry = entryOf(fromBinary(HistoryEntrySchema, unknownFact));
  assert.deepEqual([entry.revision, entry.kind, entry.fact], [7, "unknown", {}]);
});

test("an enum's value that is new is UNKNOWN", () => {
  const activeSteps = [{ stepRef: "a", status: 77 as never }];
  const instance = instanceOf(create(InstanceSchema, { state: 99 as never, activeSteps }));
  assert.equal(instance.state, "UNKNOWN");
  assert.equal(instance.activeSteps[0]?.status, "UNKNOWN");
});

test("payloads come as values and as the text that was stored", () => {
  const json = '{"id": 9007199254740993, "price": 1.50}';
  const body = { case: "json", value: json } as const;
  const instance = instanceOf(create(InstanceSchema, { input: { body }, outputs: { a: { body }, b: {} } }));
  assert.equal(instance.inputJson, json);
  assert.deepEqual(instance.outputs, { a: { id: 9007199254740993n, price: 1.5 }, b: null });
  assert.deepEqual(instance.outputsJson, { a: json, b: "null" });
});

test("a watch goes on after the last revision that it gave, and tells a gap aloud", () => {
  const watching = new Watching("i1", undefined);
  const message = (event: object) => create(WatchInstanceResponseSchema, { event: event as never });
  const entry = (revision: bigint) => message({ case: "entry", value: create(HistoryEntrySchema, { revision }) });
  assert.equal(watching.request().afterRevision, undefined);
  watching.take(message({ case: "snapshot", value: create(InstanceSchema, { revision: 3n }) }));
  assert.equal(watching.take(entry(4n))?.revision, 4);
  assert.equal(watching.request().afterRevision, 4n);
  assert.throws(() => watching.take(entry(6n)), /revision 6 after 4/);
});

test("this machine's addresses are known as such", () => {
  for (const target of ["127.0.0.1:1", "localhost:1", "[::1]:1", "dns:///localhost:1", "unix:/run/x"])
    assert.ok(isLoopback(target), target);
  for (const target of ["10.0.0.1:1", "perdure.example:1", "dns:///127.0.0.1.example:1"])
    assert.ok(!isLoopback(target), target);
});
