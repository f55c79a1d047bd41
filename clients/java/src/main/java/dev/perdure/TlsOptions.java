package dev.perdure;

import io.grpc.ChannelCredentials;
import io.grpc.TlsChannelCredentials;
import java.io.ByteArrayInputStream;
import java.io.IOException;
import java.io.InputStream;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.Objects;

/**
 * TLS settings of a client. All files are PEM. They are read when the client is built.
 *
 * <pre>{@code
 * TlsOptions tls = TlsOptions.trusting(Path.of("ca.pem"))
 *         .withCertificate(Path.of("client.pem"), Path.of("client.key"));
 * }</pre>
 */
public final class TlsOptions {
    private static final String PKCS8_HEADER = "-----BEGIN PRIVATE KEY-----";

    private final Path ca;
    private final Path certificate;
    private final Path key;
    private final String serverName;

    private TlsOptions(Path ca, Path certificate, Path key, String serverName) {
        this.ca = ca;
        this.certificate = certificate;
        this.key = key;
        this.serverName = serverName;
    }

    /** Trusts the certificate authorities of the Java installation. */
    public static TlsOptions systemRoots() {
        return new TlsOptions(null, null, null, "");
    }

    /** Trusts only the certificate authorities in this file. */
    public static TlsOptions trusting(Path ca) {
        return new TlsOptions(Objects.requireNonNull(ca, "ca"), null, null, "");
    }

    /**
     * Adds a client certificate, for servers that require one.
     *
     * @param key private key in PKCS #8, not encrypted. {@link PerdureClient.Builder#build} rejects other formats
     */
    public TlsOptions withCertificate(Path certificate, Path key) {
        Objects.requireNonNull(certificate, "certificate");
        return new TlsOptions(ca, certificate, Objects.requireNonNull(key, "key"), serverName);
    }

    /** Sets the server name that the certificate must have. Default: the host of the target. */
    public TlsOptions withServerName(String name) {
        return new TlsOptions(ca, certificate, key, Objects.requireNonNull(name, "name"));
    }

    String serverName() {
        return serverName;
    }

    ChannelCredentials credentials() throws IOException {
        TlsChannelCredentials.Builder builder = TlsChannelCredentials.newBuilder();
        if (ca != null) {
            builder.trustManager(ca.toFile());
        }
        if (certificate != null) {
            try (InputStream chain = Files.newInputStream(certificate)) {
                builder.keyManager(chain, new ByteArrayInputStream(privateKey()));
            }
        }
        return builder.build();
    }

    /** Returns the private key. Rejects every format except PKCS #8, the only one that grpc-java reads. */
    private byte[] privateKey() throws IOException {
        byte[] pem = Files.readAllBytes(key);
        if (!new String(pem, StandardCharsets.ISO_8859_1).contains(PKCS8_HEADER)) {
            throw Arguments.invalid(
                    "tls.key",
                    "the private key in " + key + " is not in PKCS #8 format, or is encrypted",
                    "convert it with `openssl pkcs8 -topk8 -nocrypt -in " + key + " -out pkcs8.pem`");
        }
        return pem;
    }
}
