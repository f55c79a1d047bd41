package dev.perdure;

/** Status of a server, from the standard service {@code grpc.health.v1}. */
public enum Health {
    /** The server accepts calls. */
    SERVING,
    /** The server is up but does not accept calls, for example because it is stopping. */
    NOT_SERVING,
    /** The server does not know the service. */
    SERVICE_UNKNOWN,
    /** A status that this version of the client does not know. */
    UNKNOWN
}
