/** TLS settings of a client. Owns: reading certificates and keys. */

import { readFileSync } from "node:fs";

import { credentials, type ChannelCredentials } from "@grpc/grpc-js";

/** PEM data: the path of a file, or its content as bytes. */
export type Pem = string | URL | Uint8Array;

/** Certificates and keys for a TLS connection. Files are read when a connection opens. */
export interface TlsOptions {
  /** Certificate authorities to trust. Default: the authorities that Node.js trusts. */
  readonly ca?: Pem | undefined;
  /** Client certificate, for servers that require one. Requires `key`. */
  readonly cert?: Pem | undefined;
  /** Private key of `cert`. */
  readonly key?: Pem | undefined;
  /** Name in the server's certificate, if it differs from the target. */
  readonly serverName?: string | undefined;
}

/**
 * Returns channel credentials: without TLS if `tls` is absent.
 *
 * Throws `TypeError` if only one of `cert` and `key` is given, and Node's error if a file cannot be read.
 */
export function credentialsOf(tls: TlsOptions | undefined): ChannelCredentials {
  if (tls === undefined) return credentials.createInsecure();
  if ((tls.cert === undefined) !== (tls.key === undefined))
    throw new TypeError("a client certificate requires both cert and key");
  return credentials.createSsl(bytesOf(tls.ca), bytesOf(tls.key), bytesOf(tls.cert));
}

function bytesOf(pem: Pem | undefined): Buffer | null {
  if (pem === undefined) return null;
  return pem instanceof Uint8Array ? Buffer.from(pem) : readFileSync(pem);
}
