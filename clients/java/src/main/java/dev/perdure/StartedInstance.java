package dev.perdure;

/**
 * Response of {@link PerdureClient#startInstance}: the instance is stored.
 *
 * @param instanceId ID of the instance
 * @param created true if this request ID created the instance, false if {@link ConflictPolicy#USE_EXISTING} found one
 * @param version workflow version that the instance runs
 * @param revision 1, or the current revision of an existing instance
 */
public record StartedInstance(String instanceId, boolean created, long version, long revision) {}
