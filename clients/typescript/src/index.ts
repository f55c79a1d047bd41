/** perdure's client for Node: the three verbs, and everything around them. */

export { Client, PAGE_SIZE, type ClientOptions } from "./client.js";
export { DEFAULT_TARGET, type Pem, type TlsOptions } from "./channel.js";
export * from "./errors.js";
export type * from "./facts.js";
export {
  encodeJson,
  JSON_DEPTH_MAX,
  parseJson,
  JsonText,
  type JsonObject,
  type JsonValue,
} from "./json.js";
export { DEFAULT_RETRIES, NO_RETRIES, type CallRetryPolicy } from "./retry.js";
export type { CallOptions } from "./transport.js";
export type * from "./types.js";
