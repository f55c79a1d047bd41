package dev.perdure;

/**
 * Failure of a step.
 *
 * @param type short, stable name, such as the class of the exception
 * @param message text for people, at most 2,000 characters
 * @param attempts number of failed attempts
 */
public record StepFailure(String type, String message, long attempts) {}
