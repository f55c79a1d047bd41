package dev.perdure;

import io.grpc.ChannelCredentials;
import io.grpc.TlsChannelCredentials;
import java.io.ByteArrayInputStream;
import java.io.IOException;
import java.io.InputStream;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.Objects;

/**
 * How to know the server and to be known by it. All files are PEM.
 *
 * <pre>{@code
 * TlsOptions tls = TlsOptions.trusting(Path.of("ca.pem")).withCertificate(Path.of("client.pem"), Path.of("client.key"));
 * }</pre>
 */
public final class TlsOptions {
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

    /** TLS with the authorities that this Java installation trusts. */
    public static TlsOptions systemRoots() {
        return new TlsOptions(null, null, null, "");
    }

    /** TLS with these authorities and no others. */
    public static TlsOptions trusting(Path ca) {
        return new TlsOptions(Objects.requireNonNull(ca, "ca"), null, null, "");
    }

    /** Adds a client's certificate, for servers that ask for one. The key is PKCS #8, PKCS #1 or SEC 1, unencrypted. */
    public TlsOptions withCertificate(Path certificate, Path key) {
        Objects.requireNonNull(certificate, "certificate");
        return new TlsOptions(ca, certificate, Objects.requireNonNull(key, "key"), serverName);
    }

    /** Names the server as its certificate does, where the target says something else. */
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
            InputStream pkcs8 = new ByteArrayInputStream(PrivateKeys.pkcs8(Files.readString(key)));
            try (InputStream chain = Files.newInputStream(certificate)) {
                builder.keyManager(chain, pkcs8);
            }
        }
        return builder.build();
    }
}
