package dev.perdure;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.io.IOException;
import java.io.UncheckedIOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.List;
import org.junit.jupiter.api.DisplayNameGeneration;
import org.junit.jupiter.api.DisplayNameGenerator;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.ValueSource;

@DisplayNameGeneration(DisplayNameGenerator.ReplaceUnderscores.class)
class TlsOptionsTest {
    @TempDir
    Path directory;

    private Path file(String name, String text) throws IOException {
        return Files.writeString(directory.resolve(name), text);
    }

    private PerdureClient build(Path certificate, Path key) {
        return PerdureClient.builder("127.0.0.1:1")
                .tls(TlsOptions.systemRoots().withCertificate(certificate, key))
                .build();
    }

    @ParameterizedTest
    @ValueSource(strings = {"RSA PRIVATE KEY", "EC PRIVATE KEY", "ENCRYPTED PRIVATE KEY", "OPENSSH PRIVATE KEY"})
    void a_key_in_another_format_is_rejected_with_a_hint(String format) throws IOException {
        Path key = file("client.key", "-----BEGIN " + format + "-----\nAAAA\n-----END " + format + "-----\n");
        Path certificate = file("client.pem", "");

        PerdureException error = assertThrows(PerdureException.class, () -> build(certificate, key));

        assertEquals(ErrorReason.INVALID_FIELD, error.reason());
        assertEquals(List.of("tls.key"), error.violations().stream().map(v -> v.field()).toList());
        assertTrue(error.getMessage().contains("the private key in " + key + " is not in PKCS #8 format"));
        assertEquals(
                "convert it with `openssl pkcs8 -topk8 -nocrypt -in " + key + " -out pkcs8.pem`", error.hint());
    }

    @Test
    void a_missing_file_is_reported_as_such() {
        Path missing = directory.resolve("missing.pem");

        assertThrows(UncheckedIOException.class, () -> build(missing, missing));
    }
}
