/**
 * Client for perdure: durable workflow instances behind a gRPC API.
 *
 * <p>Start with {@link dev.perdure.PerdureClient}. It returns immutable records and retries calls safely. Errors are
 * {@link dev.perdure.PerdureException}s with a reason code. The package {@code dev.perdure.v1} contains the generated
 * messages that the client sends; you do not need it.
 */
package dev.perdure;
