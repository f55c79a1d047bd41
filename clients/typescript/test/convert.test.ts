import assert from "node:assert/strict";
import { test } from "node:test";

import { create, fromBinary } from "@bufbuild/protobuf";
import { BinaryWriter, WireType } from "@bufbuild/protobuf/wire";

import { entryOf, instanceOf } from "#dist/convert";
import { WatchPosition } from "#dist/watch";
import { HistoryEntrySchema } from "perdure/v1/history_pb";
import { InstanceSchema, WatchInstanceResponseSchema } from "perdure/v1/instance_service_pb";

const unknownFact = new BinaryWriter()
  .tag(1, WireType.Varint)
  .int64(7)
  .tag(99, WireType.LengthDelimited)
  .bytes(Uint8Array.of(8, 1))
  .finish();

test("an unknown fact keeps its revision", () => {
  const entry = entryOf(fromBinary(HistoryEntrySchema, unknownFact));
  assert.deepEqual([entry.revision, entry.kind, entry.fact], [7, "unknown", {}]);
});

test("an unknown enum value is UNKNOWN", () => {
  const activeSteps = [{ stepRef: "a", state: 77 as never }];
  const instance = instanceOf(create(InstanceSchema, { state: 99 as never, activeSteps }));
  assert.equal(instance.state, "UNKNOWN");
  assert.equal(instance.activeSteps[0]?.state, "UNKNOWN");
});

test("payloads are returned as values and as stored text", () => {
  const json = '{"id": 9007199254740993, "price": 1.50}';
  const body = { case: "json", value: json } as const;
  const instance = instanceOf(create(InstanceSchema, { input: { body }, outputs: { a: { body }, b: {} } }));
  assert.equal(instance.inputJson, json);
  assert.deepEqual(instance.outputs, { a: { id: 9007199254740993n, price: 1.5 }, b: null });
  assert.deepEqual(instance.outputsJson, { a: json, b: "null" });
});

test("a watch continues after its last revision and rejects a gap", () => {
  const position = new WatchPosition("i1", undefined);
  const message = (event: object) => create(WatchInstanceResponseSchema, { event: event as never });
  const entry = (revision: bigint) => message({ case: "entry", value: create(HistoryEntrySchema, { revision }) });
  assert.equal(position.request().afterRevision, undefined);
  position.take(message({ case: "snapshot", value: create(InstanceSchema, { revision: 3n }) }));
  assert.equal(position.take(entry(4n))?.revision, 4);
  assert.equal(position.request().afterRevision, 4n);
  assert.throws(() => position.take(entry(6n)), /revision 6 after 4/);
});
