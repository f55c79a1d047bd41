package dev.perdure;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;

import java.io.IOException;
import java.nio.charset.StandardCharsets;
import java.security.KeyFactory;
import java.security.KeyPairGenerator;
import java.security.PrivateKey;
import java.security.interfaces.ECPrivateKey;
import java.security.spec.ECGenParameterSpec;
import java.security.spec.PKCS8EncodedKeySpec;
import java.util.Arrays;
import java.util.Base64;
import org.junit.jupiter.api.DisplayNameGeneration;
import org.junit.jupiter.api.DisplayNameGenerator;
import org.junit.jupiter.api.Test;

@DisplayNameGeneration(DisplayNameGenerator.ReplaceUnderscores.class)
class PrivateKeysTest {
    private static String pem(String kind, byte[] der) {
        return "a comment\n-----BEGIN " + kind + "-----\n" + Base64.getMimeEncoder().encodeToString(der) + "\n-----END "
                + kind + "-----\n";
    }

    private static PrivateKey read(String algorithm, byte[] pem) throws Exception {
        String body = new String(pem, StandardCharsets.US_ASCII).replaceAll("-----[A-Z ]+-----", "");
        byte[] der = Base64.getMimeDecoder().decode(body);
        return KeyFactory.getInstance(algorithm).generatePrivate(new PKCS8EncodedKeySpec(der));
    }

    /** Returns what a PKCS #8 key wraps: the last part of it, from an offset that its algorithm decides. */
    private static byte[] unwrapped(PrivateKey key, int offset) {
        return Arrays.copyOfRange(key.getEncoded(), offset, key.getEncoded().length);
    }

    @Test
    void a_pkcs1_key_is_wrapped() throws Exception {
        KeyPairGenerator generator = KeyPairGenerator.getInstance("RSA");
        generator.initialize(2_048);
        PrivateKey key = generator.generateKeyPair().getPrivate();

        byte[] wrapped = PrivateKeys.pkcs8(pem("RSA PRIVATE KEY", unwrapped(key, 26)));

        assertEquals(key, read("RSA", wrapped));
    }

    @Test
    void a_sec1_key_is_wrapped_with_its_curve() throws Exception {
        KeyPairGenerator generator = KeyPairGenerator.getInstance("EC");
        generator.initialize(new ECGenParameterSpec("secp256r1"));
        ECPrivateKey key = (ECPrivateKey) generator.generateKeyPair().getPrivate();
        byte[] secret = key.getS().toByteArray();
        byte[] padded = new byte[32];
        int length = Math.min(32, secret.length);
        System.arraycopy(secret, secret.length - length, padded, 32 - length, length);
        byte[] head = {0x30, 49, 2, 1, 1, 4, 32};
        byte[] curve = {(byte) 0xa0, 10, 6, 8, 0x2a, (byte) 0x86, 0x48, (byte) 0xce, 0x3d, 3, 1, 7};
        byte[] sec1 = new byte[head.length + padded.length + curve.length];
        System.arraycopy(head, 0, sec1, 0, head.length);
        System.arraycopy(padded, 0, sec1, head.length, padded.length);
        System.arraycopy(curve, 0, sec1, head.length + padded.length, curve.length);

        ECPrivateKey found = (ECPrivateKey) read("EC", PrivateKeys.pkcs8(pem("EC PRIVATE KEY", sec1)));

        assertEquals(key.getS(), found.getS());
        assertEquals(key.getParams().getOrder(), found.getParams().getOrder());
    }

    @Test
    void a_pkcs8_key_and_what_is_no_key_stay_as_they_are() throws IOException {
        for (String pem : new String[] {pem("PRIVATE KEY", new byte[] {1, 2}), "no key"}) {
            assertArrayEquals(pem.getBytes(StandardCharsets.US_ASCII), PrivateKeys.pkcs8(pem));
        }
    }

    @Test
    void a_broken_key_is_refused_by_name() {
        String broken = pem("EC PRIVATE KEY", new byte[] {0x30, 3, 2, 1, 1});

        assertEquals(
                "the private key is no EC key",
                assertThrows(IOException.class, () -> PrivateKeys.pkcs8(broken)).getMessage());
    }
}
