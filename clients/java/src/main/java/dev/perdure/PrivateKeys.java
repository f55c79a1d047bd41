package dev.perdure;

import java.io.ByteArrayOutputStream;
import java.io.IOException;
import java.nio.ByteBuffer;
import java.nio.charset.StandardCharsets;
import java.util.Arrays;
import java.util.Base64;
import java.util.regex.Matcher;
import java.util.regex.Pattern;

/**
 * Private keys in the one form that gRPC's Java takes, PKCS #8.
 *
 * <p>OpenSSL and others also write {@code RSA PRIVATE KEY} (PKCS #1, RFC 8017) and {@code EC PRIVATE KEY} (SEC 1, RFC
 * 5915); what PKCS #8 (RFC 5208) puts around either is a few bytes. No cryptography here.
 */
final class PrivateKeys {
    private static final Pattern BLOCK =
            Pattern.compile("-----BEGIN (RSA |EC |)PRIVATE KEY-----([A-Za-z0-9+/=\\s]+)-----END \\1PRIVATE KEY-----");

    private static final int INTEGER = 0x02;
    private static final int OCTET_STRING = 0x04;
    private static final int SEQUENCE = 0x30;
    private static final int CONTEXT_0 = 0xa0;

    private static final byte[] VERSION_0 = {INTEGER, 1, 0};
    /** The object identifier 1.2.840.113549.1.1.1 and NULL. */
    private static final byte[] RSA_ENCRYPTION = {
        0x06, 9, 0x2a, (byte) 0x86, 0x48, (byte) 0x86, (byte) 0xf7, 0x0d, 1, 1, 1, 0x05, 0
    };
    /** The object identifier 1.2.840.10045.2.1; the curve's follows it. */
    private static final byte[] EC_PUBLIC_KEY = {0x06, 7, 0x2a, (byte) 0x86, 0x48, (byte) 0xce, 0x3d, 2, 1};

    private PrivateKeys() {}

    /**
     * Returns the first private key of a PEM text as PEM in PKCS #8; the text as it is where there is none, so that
     * gRPC says what is wrong with it.
     */
    static byte[] pkcs8(String pem) throws IOException {
        Matcher block = BLOCK.matcher(pem);
        if (!block.find() || block.group(1).isEmpty()) {
            return pem.getBytes(StandardCharsets.US_ASCII);
        }
        byte[] key;
        byte[] algorithm;
        try {
            key = Base64.getMimeDecoder().decode(block.group(2));
            algorithm = block.group(1).equals("RSA ") ? RSA_ENCRYPTION : joined(EC_PUBLIC_KEY, curve(key));
        } catch (RuntimeException malformed) {
            throw new IOException("the private key is no " + block.group(1) + "key", malformed);
        }
        byte[] wrapped =
                element(SEQUENCE, VERSION_0, element(SEQUENCE, algorithm), element(OCTET_STRING, key));
        String body = Base64.getMimeEncoder(64, new byte[] {'\n'}).encodeToString(wrapped);
        String text = "-----BEGIN PRIVATE KEY-----\n" + body + "\n-----END PRIVATE KEY-----\n";
        return text.getBytes(StandardCharsets.US_ASCII);
    }

    /** Returns the object identifier of an ECPrivateKey's curve: its element [0]. */
    private static byte[] curve(byte[] ecPrivateKey) {
        ByteBuffer fields = content(ByteBuffer.wrap(ecPrivateKey), SEQUENCE);
        content(fields, INTEGER);
        content(fields, OCTET_STRING);
        ByteBuffer identifier = content(fields, CONTEXT_0);
        byte[] bytes = new byte[identifier.remaining()];
        identifier.get(bytes);
        return bytes;
    }

    /** Passes over one DER element and returns what it holds. */
    private static ByteBuffer content(ByteBuffer from, int tag) {
        if ((from.get() & 0xff) != tag) {
            throw new IllegalArgumentException("the DER element " + Integer.toHexString(tag) + " is expected");
        }
        int length = from.get() & 0xff;
        if (length >= 0x80) {
            int bytes = length & 0x7f;
            if (bytes > 3) {
                throw new IllegalArgumentException("the DER element is too long");
            }
            length = 0;
            for (int i = 0; i < bytes; i++) {
                length = length << 8 | from.get() & 0xff;
            }
        }
        ByteBuffer content = from.slice(from.position(), length);
        from.position(from.position() + length);
        return content;
    }

    private static byte[] element(int tag, byte[]... parts) {
        byte[] content = joined(parts);
        byte[] length;
        if (content.length < 0x80) {
            length = new byte[] {(byte) content.length};
        } else {
            byte[] four = ByteBuffer.allocate(4).putInt(content.length).array();
            int from = content.length < 1 << 8 ? 3 : content.length < 1 << 16 ? 2 : 1;
            length = joined(new byte[] {(byte) (0x80 | 4 - from)}, Arrays.copyOfRange(four, from, 4));
        }
        return joined(new byte[] {(byte) tag}, length, content);
    }

    private static byte[] joined(byte[]... parts) {
        ByteArrayOutputStream all = new ByteArrayOutputStream();
        for (byte[] part : parts) {
            all.writeBytes(part);
        }
        return all.toByteArray();
    }
}
