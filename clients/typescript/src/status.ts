/** gRPC's errors as the classes of `errors.ts`: the only place that knows both. */

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

/** Returns the error for a failed call: by its reason, else by its status. */
export function errorOf(failed: ServiceError, requestId = ""): PerdureError {
  const status = statusOf(failed);
  let reason = "";
  let metadata: Record<string, string> = {};
  let resource: Resource | undefined;
  let retryAfterMs: number | undefined;
  const violations: FieldViolation[] = [];
  try {
    for (const packed of detailsOf(failed)) {
      const info = anyUnpack(packed, ErrorInfoSchema);
      if (info !== undefined && info.domain === DOMAIN) {
        reason = info.reason;
        metadata = { ...info.metadata };
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
    // A proxy may have cut the details. The status and its message still stand.
  }
  const message = failed.details || status;
  return errorFrom(message, {
    status,
    reason,
    metadata,
    violations,
    resource,
    retryAfterMs,
    requestId,
    cause: failed,
  });
}

function statusOf(failed: ServiceError): string {
  // A stream that is reset from below, as by a proxy or a dying server, is grpc-js' own INTERNAL; perdure sends none.
  if (failed.code === Code.INTERNAL && failed.details.startsWith("Received RST_STREAM")) return "UNAVAILABLE";
  return Code[failed.code] ?? "UNKNOWN";
}

function detailsOf(failed: ServiceError): Status["details"] {
  // What fails before it is sent carries no metadata, whatever the type says.
  const [body] = (failed.metadata as ServiceError["metadata"] | undefined)?.get(DETAILS_KEY) ?? [];
  return body instanceof Uint8Array ? fromBinary(StatusSchema, body).details : [];
}
