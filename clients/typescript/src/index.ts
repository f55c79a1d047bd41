/** Client for perdure: start, resume and watch durable workflow instances. */

export { Client, PAGE_SIZE, type ClientOptions } from "./client.js";
export { DEFAULT_TARGET } from "./connection.js";
export * from "./errors.js";
export type * from "./facts.js";
export { encodeJson, JSON_DEPTH_MAX, parseJson, RawJson, type JsonObject, type JsonValue } from "./json.js";
export { DEFAULT_RETRIES, NO_RETRIES, type CallRetryPolicy } from "./retry.js";
export type { Pem, TlsOptions } from "./tls.js";
export type { CallOptions } from "./transport.js";
export type * from "./types.js";
