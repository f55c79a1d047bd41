package dev.perdure;

import java.time.Duration;

/**
 * Retry policy of a task in a workflow. For the calls of a client, see {@link CallRetryPolicy}.
 *
 * <p>The backoff after failure n is {@code min(maxBackoff, initialBackoff * multiplier^(n-1))}.
 *
 * @param maxAttempts number of failed attempts after which the step fails
 * @param initialBackoff backoff after the first failure
 * @param maxBackoff maximum backoff
 * @param multiplier factor between two backoffs, at least 1
 * @param jitter maximum share of a backoff that is randomly subtracted, 0 to 1
 */
public record RetryPolicy(
        long maxAttempts, Duration initialBackoff, Duration maxBackoff, double multiplier, double jitter) {}
