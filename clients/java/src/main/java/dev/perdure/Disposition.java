package dev.perdure;

/** Result of accepting an event. */
public enum Disposition {
    /** The event ended the step that waited for it. */
    DELIVERED,
    /** The event is stored and waits for its step. */
    BUFFERED,
    /** A result that this version of the client does not know. */
    UNKNOWN
}
