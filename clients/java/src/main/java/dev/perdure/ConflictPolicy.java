package dev.perdure;

/** Action of {@link PerdureClient#startInstance} if a live instance of the workflow holds the business key. */
public enum ConflictPolicy {
    /** Reject the call with {@link ErrorReason#BUSINESS_KEY_IN_USE}. */
    FAIL,
    /** Return the instance that holds the key, with {@code created} false. */
    USE_EXISTING
}
