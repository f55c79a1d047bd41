package dev.perdure;

import java.time.Instant;
import java.util.List;

/**
 * One version of a workflow, with its graph.
 *
 * @param name name of the workflow
 * @param version version, from 1
 * @param digest digest of the graph, in lower-case hexadecimal
 * @param start step that starts first
 * @param steps steps in the order of their declaration
 * @param createTime time at which the server first stored this graph under this version
 */
public record WorkflowVersion(
        String name, long version, String digest, String start, List<StepDefinition> steps, Instant createTime) {}
