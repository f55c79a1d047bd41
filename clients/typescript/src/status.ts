/** Conversion of gRPC errors to the classes of `errors.ts`. */

import { fromBinary } from "@bufbuild/protobuf";
import { anyUnpack, durationMs } from "@bufbuild/protobuf/wkt";
import { status as Code, type ServiceError } from "@grpc/grpc-js";

import { errorFrom, type FieldViolation, type PerdureError, type Resource } from "./errors.js";
import {
  BadRequestSchema,
  ErrorInfoSchema,
  PreconditionFailureSchema,
  ResourceInfoSchema,
  RetryInfoSchema,
  StatusSchema,
  type Status,
} from "./gen/google/rpc/status_pb.js";

const DETAILS_KEY = "grpc-status-details-bin";
const DOMAIN = "perdure";

/** Returns the error of a failed call. Its class follows the reason if there is one, otherwise the status code. */
export function errorOf(failed: ServiceError, requestId = ""): PerdureError {
  const code = codeOf(failed);
  let reason = "";
  let metadata: Record<string, string> = {};
  let detail = "";
  let hint = "";
  let resource: Resource | undefined;
  let retryAfterMs: number | undefined;
  const violations: FieldViolation[] = [];
  try {
    for (const packed of detailsOf(failed)) {
      const info = anyUnpack(packed, ErrorInfoSchema);
      if (info !== undefined && info.domain === DOMAIN) {
        reason = info.reason;
        ({ detail = "", hint = "", ...metadata } = info.metadata);
      }
      for (const { field, description } of anyUnpack(packed, BadRequestSchema)?.fieldViolations ?? [])
        violations.push({ field, description });
      for (const { subject, description } of anyUnpack(packed, PreconditionFailureSchema)?.violations ?? [])
        violations.push({ field: subject, description });
      const about = anyUnpack(packed, ResourceInfoSchema);
      if (about !== undefined) resource = { type: about.resourceType, name: about.resourceName };
      const retry = anyUnpack(packed, RetryInfoSchema)?.retryDelay;
      if (retry !== undefined) retryAfterMs = durationMs(retry);
    }
  } catch {
    // A proxy can truncate the details. The status code and the message are still valid.
  }
  const message = failed.details || code;
  return errorFrom(message, {
    code,
    reason,
    metadata,
    detail,
    hint,
    violations,
    resource,
    retryAfterMs,
    requestId,
    cause: failed,
  });
}

function codeOf(failed: ServiceError): string {
  // grpc-js reports INTERNAL if a proxy or a dying server resets a stream. perdure never sends INTERNAL with this text.
  if (failed.code === Code.INTERNAL && failed.details.startsWith("Received RST_STREAM")) return "UNAVAILABLE";
  return Code[failed.code] ?? "UNKNOWN";
}

function detailsOf(failed: ServiceError): Status["details"] {
  // A call that fails before it is sent has no metadata, although the type says so.
  const [body] = (failed.metadata as ServiceError["metadata"] | undefined)?.get(DETAILS_KEY) ?? [];
  return body instanceof Uint8Array ? fromBinary(StatusSchema, body).details : [];
}
