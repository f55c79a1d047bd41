package dev.perdure;

import java.time.Instant;

/**
 * Version of a workflow in a list, without its graph.
 *
 * @param name name of the workflow
 * @param version version, from 1
 * @param digest digest of the graph, in lower-case hexadecimal
 * @param stepCount number of steps
 * @param createTime time at which the server first stored this graph under this version
 */
public record WorkflowSummary(String name, long version, String digest, long stepCount, Instant createTime) {}
