/**
 * A client for perdure: durable workflow instances behind a gRPC API.
 *
 * <p>{@link dev.perdure.PerdureClient} is the way in. What it takes and gives are the messages of {@code dev.perdure.v1},
 * which are generated from the API's protos: immutable, complete, and at ease with what a newer server adds. This
 * package holds what they lack: calls that are safe to repeat, errors by reason, watches that survive a lost
 * connection, pages as one list, and JSON.
 */
package dev.perdure;
