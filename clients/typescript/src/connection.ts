/** Channel settings: default address, keepalive, reconnection, limits. */

import type { ChannelOptions } from "@grpc/grpc-js";

import type { TlsOptions } from "./tls.js";

/** Address that a client connects to by default. */
export const DEFAULT_TARGET = "127.0.0.1:7420";

/** Idle time after which a connection with open calls is pinged. Servers allow one ping every 10 s. */
export const KEEPALIVE_MS = 30_000;
/** Time to wait for the response to a ping before the connection is closed. */
export const KEEPALIVE_TIMEOUT_MS = 10_000;
/** Shortest and longest delay before a lost connection is opened again. */
export const RECONNECT_MS_MIN = 100;
export const RECONNECT_MS_MAX = 5_000;
/** Maximum size of a response. An instance's payloads take at most 3 MiB, so no response is larger. */
export const RECEIVE_BYTES_MAX = 16 << 20;

/** Returns the options of a channel to `target`. */
export function channelOptions(target: string, tls: TlsOptions | undefined): ChannelOptions {
  return {
    "grpc.keepalive_time_ms": KEEPALIVE_MS,
    "grpc.keepalive_timeout_ms": KEEPALIVE_TIMEOUT_MS,
    "grpc.keepalive_permit_without_calls": 0,
    "grpc.initial_reconnect_backoff_ms": RECONNECT_MS_MIN,
    "grpc.max_reconnect_backoff_ms": RECONNECT_MS_MAX,
    "grpc.max_receive_message_length": RECEIVE_BYTES_MAX,
    // The client retries calls itself, with their request IDs. A service config from DNS must not add other retries.
    "grpc.service_config_disable_resolution": 1,
    "grpc.primary_user_agent": "perdure-node",
    // By default, channels with equal options share one connection. Then watches would use up the streams of other calls.
    "grpc.use_local_subchannel_pool": 1,
    // An http_proxy in the environment does not apply to the local machine.
    ...(isLoopback(target) ? { "grpc.enable_http_proxy": 0 } : {}),
    ...(tls?.serverName
      ? { "grpc.ssl_target_name_override": tls.serverName, "grpc.default_authority": tls.serverName }
      : {}),
  };
}

/** Returns true if a target is on the local machine. */
export function isLoopback(target: string): boolean {
  if (/^unix(-abstract)?:/.test(target)) return true;
  const address = target.slice(target.lastIndexOf("/") + 1);
  const host = address.replace(/^dns:/, "").replace(/:\d+$/, "").replace(/^\[|\]$/g, "");
  return host === "localhost" || host === "::1" || /^127(\.\d{1,3}){3}$/.test(host);
}
