import assert from "node:assert/strict";
import { test } from "node:test";

import { create, toBinary } from "@bufbuild/protobuf";
import { anyPack, durationFromMs, type Any } from "@bufbuild/protobuf/wkt";
import { Metadata, status as Code, type ServiceError } from "@grpc/grpc-js";

import * as rpc from "#dist/gen/google/rpc/status_pb";
import { errorOf } from "#dist/status";
import * as perdure from "perdure";
import { ErrorReasonSchema } from "perdure/v1/errors_pb";

function failed(code: Code, details: string, packed: Any[] = [], bytes?: Uint8Array): ServiceError {
  const metadata = new Metadata();
  const status = create(rpc.StatusSchema, { code, message: details, details: packed });
  const body = bytes ?? toBinary(rpc.StatusSchema, status);
  if (packed.length > 0 || bytes) metadata.set("grpc-status-details-bin", Buffer.from(body));
  return Object.assign(new Error(details), { code, details, metadata });
}

const info = (reason: string, domain = "perdure", metadata: Record<string, string> = { step_refs: "a, b" }) =>
  anyPack(rpc.ErrorInfoSchema, create(rpc.ErrorInfoSchema, { reason, domain, metadata }));

test("an error has the class of its reason and all details", () => {
  const error = errorOf(
    failed(Code.FAILED_PRECONDITION, "two steps wait", [
      info("AMBIGUOUS_EVENT"),
      anyPack(
        rpc.BadRequestSchema,
        create(rpc.BadRequestSchema, { fieldViolations: [{ field: "event", description: "is ambiguous" }] }),
      ),
      anyPack(
        rpc.ResourceInfoSchema,
        create(rpc.ResourceInfoSchema, { resourceType: "perdure.v1.Instance", resourceName: "i1" }),
      ),
      anyPack(rpc.RetryInfoSchema, create(rpc.RetryInfoSchema, { retryDelay: durationFromMs(1_250) })),
    ]),
    "request-1",
  );
  assert.ok(error instanceof perdure.AmbiguousEventError);
  assert.ok(error instanceof perdure.FailedPreconditionError);
  assert.equal(error.name, "AmbiguousEventError");
  assert.deepEqual(
    [error.code, error.reason, error.message, error.requestId],
    ["FAILED_PRECONDITION", "AMBIGUOUS_EVENT", "two steps wait", "request-1"],
  );
  assert.deepEqual(error.stepRefs, ["a", "b"]);
  assert.deepEqual(error.violations, [{ field: "event", description: "is ambiguous" }]);
  assert.equal(error.instanceId, "i1");
  assert.equal(error.retryAfterMs, 1_250);
  assert.equal(error.retryable, false);
});

test("detail and hint are taken from the metadata, empty if absent", () => {
  const metadata = { detail: "the remaining steps accept: cancelled", hint: "list the instance's steps" };
  const error = errorOf(failed(Code.FAILED_PRECONDITION, "event", [info("EVENT_NOT_AWAITED", "perdure", metadata)]));
  assert.deepEqual([error.detail, error.hint], [metadata.detail, metadata.hint]);
  assert.deepEqual(error.metadata, {});
  const bare = errorOf(failed(Code.NOT_FOUND, "nothing", [info("INSTANCE_NOT_FOUND")]));
  assert.deepEqual([bare.detail, bare.hint], ["", ""]);
});

test("an unknown reason has the class of its status code", () => {
  const error = errorOf(failed(Code.NOT_FOUND, "no such thing", [info("MOON_NOT_FOUND")]));
  assert.equal(error.constructor, perdure.NotFoundError);
  assert.equal(error.reason, "MOON_NOT_FOUND");
});

test("a reason of another domain is ignored", () => {
  assert.equal(errorOf(failed(Code.NOT_FOUND, "nothing", [info("INSTANCE_NOT_FOUND", "elsewhere")])).reason, "");
});

test("truncated details do not hide the status code", () => {
  const error = errorOf(failed(Code.UNAVAILABLE, "away", [], Uint8Array.of(0x1a, 0x7f, 1)));
  assert.ok(error instanceof perdure.UnavailableError);
  assert.equal(error.message, "away");
});

test("OVERLOADED is the only retryable RESOURCE_EXHAUSTED error", () => {
  assert.ok(errorOf(failed(Code.RESOURCE_EXHAUSTED, "busy", [info("OVERLOADED")])).retryable);
  assert.ok(!errorOf(failed(Code.RESOURCE_EXHAUSTED, "large", [info("PAYLOAD_TOO_LARGE")])).retryable);
  assert.ok(!errorOf(failed(Code.RESOURCE_EXHAUSTED, "message too large")).retryable);
});

test("a reset stream counts as a lost connection", () => {
  const error = errorOf(failed(Code.INTERNAL, "Received RST_STREAM with code 2 (Internal server error)"));
  assert.ok(error instanceof perdure.UnavailableError);
  assert.equal(errorOf(failed(Code.INTERNAL, "a bug")).code, "INTERNAL");
});

test("every error reason of the API has a class", () => {
  const reasons = ErrorReasonSchema.values.filter(({ number }) => number !== 0).map(({ localName }) => localName);
  assert.deepEqual([...perdure.REASONS].sort(), reasons.sort());
});
