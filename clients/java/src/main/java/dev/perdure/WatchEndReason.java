package dev.perdure;

/** Reason why the server ended a watch. */
public enum WatchEndReason {
    /** The instance ended, and every entry was sent. */
    INSTANCE_ENDED,
    /** The server is stopping. {@link Watch} reconnects and does not return this. */
    SERVER_DRAINING,
    /** The client left messages unread for too long. {@link Watch} reconnects and does not return this. */
    TOO_SLOW,
    /** A reason that this version of the client does not know. */
    UNKNOWN
}
