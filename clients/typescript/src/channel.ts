/** How a connection is opened: TLS, keepalive, limits. */

import { readFileSync } from "node:fs";

import { credentials, type ChannelCredentials, type ChannelOptions } from "@grpc/grpc-js";

export const DEFAULT_TARGET = "127.0.0.1:7420";

/** After how long a silence a connection with open calls is pinged. Servers allow one ping each 10 s. */
export const KEEPALIVE_MS = 30_000;
/** How long the answer to a ping may take before the connection counts as lost. */
export const KEEPALIVE_TIMEOUT_MS = 10_000;
/** Between which pauses a lost connection is dialled again. */
export const RECONNECT_MS_MIN = 100;
export const RECONNECT_MS_MAX = 5_000;
/** Above anything that a server sends: an instance's payloads are at most 3 MiB. */
export const RECEIVE_BYTES_MAX = 16 << 20;

/** PEM: the path of a file, or its content as bytes. */
export type Pem = string | URL | Uint8Array;

/** How to know the server and to be known by it. */
export interface TlsOptions {
  /** The authorities to trust; by default those that Node brings. */
  readonly ca?: Pem | undefined;
  /** The client's certificate, for servers that ask for one; needs `key`. */
  readonly cert?: Pem | undefined;
  readonly key?: Pem | undefined;
  /** The name in the server's certificate, where the target differs from it. */
  readonly serverName?: string | undefined;
}

/** Reads the files and returns what a channel takes. Throws for a file that cannot be read. */
export function credentialsOf(tls: TlsOptions | undefined): ChannelCredentials {
  if (tls === undefined) return credentials.createInsecure();
  if ((tls.cert === undefined) !== (tls.key === undefined))
    throw new TypeError("a client certificate needs both cert and key");
  return credentials.createSsl(bytesOf(tls.ca), bytesOf(tls.key), bytesOf(tls.cert));
}

function bytesOf(pem: Pem | undefined): Buffer | null {
  if (pem === undefined) return null;
  return pem instanceof Uint8Array ? Buffer.from(pem) : readFileSync(pem);
}

export function channelOptions(target: string, tls: TlsOptions | undefined): ChannelOptions {
  return {
    "grpc.keepalive_time_ms": KEEPALIVE_MS,
    "grpc.keepalive_timeout_ms": KEEPALIVE_TIMEOUT_MS,
    "grpc.keepalive_permit_without_calls": 0,
    "grpc.initial_reconnect_backoff_ms": RECONNECT_MS_MIN,
    "grpc.max_reconnect_backoff_ms": RECONNECT_MS_MAX,
    "grpc.max_receive_message_length": RECEIVE_BYTES_MAX,
    // CallRetryPolicy are ours, with the request id in view; a service config out of DNS shall not add its own.
    "grpc.service_config_disable_resolution": 1,
    "grpc.primary_user_agent": "perdure-node",
    // By default, channels with equal options share one connection. Then watches would use up the streams of other calls.
    "grpc.use_local_subchannel_pool": 1,
    // An http_proxy in the environment is not meant for this machine.
    ...(isLoopback(target) ? { "grpc.enable_http_proxy": 0 } : {}),
    ...(tls?.serverName
      ? { "grpc.ssl_target_name_override": tls.serverName, "grpc.default_authority": tls.serverName }
      : {}),
  };
}

/** Whether a target names this machine. */
export function isLoopback(target: string): boolean {
  if (/^unix(-abstract)?:/.test(target)) return true;
  const address = target.slice(target.lastIndexOf("/") + 1);
  const host = address.replace(/^dns:/, "").replace(/:\d+$/, "").replace(/^\[|\]$/g, "");
  return host === "localhost" || host === "::1" || /^127(\.\d{1,3}){3}$/.test(host);
}
