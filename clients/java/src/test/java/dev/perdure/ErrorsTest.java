package dev.perdure;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertTrue;

import io.grpc.Metadata;
import io.grpc.Status;
import java.nio.channels.ClosedChannelException;
import org.junit.jupiter.api.DisplayNameGeneration;
import org.junit.jupiter.api.DisplayNameGenerator;
import org.junit.jupiter.api.Test;

@DisplayNameGeneration(DisplayNameGenerator.ReplaceUnderscores.class)
class ErrorsTest {
    @Test
    void a_connection_that_closes_while_opening_is_unavailable() {
        Status closed = Status.UNKNOWN.withDescription("channel closed").withCause(new ClosedChannelException());

        PerdureException error = Errors.of(closed, new Metadata(), "r");

        assertEquals(Status.Code.UNAVAILABLE, error.code());
        assertTrue(error.isRetryable());
    }

    @Test
    void an_unknown_error_of_a_server_stays_unknown() {
        PerdureException error = Errors.of(Status.UNKNOWN.withDescription("it broke"), null, "");

        assertEquals(Status.Code.UNKNOWN, error.code());
        assertFalse(error.isRetryable());
    }
}
