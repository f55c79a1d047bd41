package dev.perdure;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import com.fasterxml.jackson.databind.ObjectMapper;
import com.google.gson.Gson;
import dev.perdure.v1.Payload;
import dev.perdure.v1.StartInstanceRequest;
import java.math.BigDecimal;
import java.math.BigInteger;
import java.util.Arrays;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.concurrent.atomic.AtomicInteger;
import org.junit.jupiter.api.DisplayNameGeneration;
import org.junit.jupiter.api.DisplayNameGenerator;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.ValueSource;

@DisplayNameGeneration(DisplayNameGenerator.ReplaceUnderscores.class)
class JsonTest {
    private static final String MALFORMED = "has a malformed value, or a number of more than 1000 characters, ";

    /** Class of a user, as Jackson and Gson see it. */
    static final class Order {
        public List<String> items = List.of();
        public long cents;
    }

    @Test
    void plain_values_survive_a_round_trip() {
        Map<String, Object> value = new LinkedHashMap<>();
        value.put("largest", Long.MAX_VALUE);
        value.put("smallest", Long.MIN_VALUE);
        value.put("beyond", new BigInteger("18446744073709551616"));
        value.put("tenth", new BigDecimal("0.1000"));
        value.put("text", "ż😀\u2028\u0000\"\\\n\u007f");
        value.put("none", null);
        value.put("nested", List.of(true, false, List.of(), Map.of()));

        assertEquals(value, Json.read(Json.write(value)));
        assertEquals(List.copyOf(value.keySet()), List.copyOf(((Map<?, ?>) Json.read(Json.write(value))).keySet()));
    }

    @Test
    void numbers_keep_their_type_and_digits() {
        assertEquals(
                List.of(
                        1L,
                        0L,
                        -3L,
                        new BigInteger("9223372036854775808"),
                        new BigDecimal("1.0"),
                        new BigDecimal("2e3")),
                Json.read(" [1, -0, -3, 9223372036854775808, 1.0, 2e3 ] "));
        assertEquals("[1,2.5,3.0,4]", Json.write(new Object[] {1, 2.5, 3f, (byte) 4}));
    }

    @Test
    void escapes_are_decoded() {
        String escaped = "\"\\\"\\\\\\/\\b\\f\\n\\r\\t\\u00e9\\uD83D\\ude00\"";

        assertEquals("\"\\/\b\f\n\r\té😀", Json.read(escaped));
    }

    @ParameterizedTest
    @ValueSource(
            strings = {
                "", " ", "nul", "nulll", "tru", "01", "-", "1.", ".5", "1e", "+1", "NaN", "Infinity", "'a'", "\"a",
                "\"\n\"", "\"\\x\"", "\"\\u12g4\"", "[1,]", "[1 2]", "[", "{\"a\"}", "{\"a\":1,}", "{a:1}", "{1:1}",
                "[1]]", "1 1", "// c", "\u00a01", "\ufeff1",
                "True", "NULL", "[1;2]", "{\"a\"=1}", "# c\n1", "[,]", "[1,,2]",
                "'a", "0x1", "1_0", "--1", "1.e5", "\"\\\n\"", "\"\t\"", "nan", "[1] x", "\f1", ")]}'\n[1]"
            })
    void invalid_json_is_rejected(String text) {
        assertThrows(IllegalArgumentException.class, () -> Json.read(text));
    }

    @Test
    void unsupported_values_are_rejected_with_their_path() {
        for (Object[] bad : new Object[][] {
            {Double.NaN, "NaN is not a JSON number"},
            {Map.of(1, 2), "key 1 is not a string"},
            {"\ud800", "contains a lone surrogate"},
            {new Order(), "dev.perdure.JsonTest$Order is not a JSON type"},
            {new AtomicInteger(), "java.util.concurrent.atomic.AtomicInteger is not a JSON type"},
        }) {
            Object value = Map.of("items", Arrays.asList(1, bad[0]));
            Exception error = assertThrows(IllegalArgumentException.class, () -> RawJson.of(value));
            assertEquals("value cannot be written as JSON at .items[1]: " + bad[1], error.getMessage());
        }
    }

    @Test
    void nesting_and_number_length_are_limited() {
        String deep = "[".repeat(100) + "]".repeat(100);
        assertEquals(deep, Json.write(Json.read(deep)));
        assertEquals(new BigInteger("9".repeat(1_000)), Json.read("9".repeat(1_000)));
        assertEquals(new BigDecimal("0." + "3".repeat(998)), Json.read("0." + "3".repeat(998)));
        assertThrows(IllegalArgumentException.class, () -> Json.write(List.of(Json.read(deep))));
        assertReadFails("[" + deep + "]", "is nested more than 100 deep");
        assertReadFails("[" + "9".repeat(1_001) + "]", "has a number of more than 1000 characters at path $[0]");
        assertReadFails("[" + "9".repeat(100_000) + "]", MALFORMED + "at line 1 column 2 path $[0]");
        assertReadFails("1e99999999999", "has a number with too large an exponent at path $");
    }

    private static void assertReadFails(String text, String problem) {
        Exception error = assertThrows(IllegalArgumentException.class, () -> Json.read(text));
        assertEquals("invalid JSON: the text " + problem, error.getMessage());
    }

    @Test
    void errors_name_the_position() {
        assertReadFails("", "is empty");
        assertReadFails("{\"a\": [1,", "ends too early at path $.a[1]");
        assertReadFails("{\"a\": [1, nul]}", MALFORMED + "at line 1 column 11 path $.a[1]");
        assertReadFails("1 2", MALFORMED + "at line 1 column 4 path $");
    }

    @Test
    void raw_json_keeps_its_text_byte_for_byte() {
        String text = " {\"a\" : 1.50, \"b\":18446744073709551616,\"a\":\"ż\"}";

        assertEquals(text, Convert.json(Arguments.payload("context", new RawJson(text))).text());
        assertEquals(text, new RawJson(text).toString());
        assertEquals("null", Convert.json(Payload.getDefaultInstance()).text());
        assertEquals(Map.of("a", "ż", "b", new BigInteger("18446744073709551616")), new RawJson(text).value());
        assertEquals("[{\"b\":1.50}]", Json.write(List.of(new RawJson(" {\"b\": 1.50}"))));
    }

    @Test
    void a_json_library_is_adapted_by_two_method_references() {
        ObjectMapper mapper = new ObjectMapper();
        Gson gson = new Gson();
        Order order = new Order();
        order.items = List.of("lamp", "ż😀");
        order.cents = Long.MAX_VALUE;

        for (JsonCodec json : List.of(
                JsonCodec.of(mapper::writeValueAsString, mapper::readValue),
                JsonCodec.of(gson::toJson, gson::fromJson))) {
            RawJson payload = json.write(order);
            Order back = json.read(payload, Order.class);

            assertEquals("{\"items\":[\"lamp\",\"ż😀\"],\"cents\":9223372036854775807}", payload.text());
            assertEquals(order.items, back.items);
            assertEquals(order.cents, back.cents);
            assertThrows(IllegalArgumentException.class, () -> json.read(new RawJson("[1]"), Order.class));
        }
    }

    @Test
    void text_that_is_not_valid_unicode_is_not_sent() {
        StartInstanceRequest request = StartInstanceRequest.newBuilder()
                .setWorkflow("order")
                .setContext(Arguments.payload("context", new RawJson("\"\udc00\"")))
                .setOpts(dev.perdure.v1.StartOptions.newBuilder().putLabels("a", "fine 😀").putLabels("b", "\ud83d"))
                .build();

        PerdureException error = assertThrows(PerdureException.class, () -> Arguments.check(request, "r"));

        assertEquals("INVALID_FIELD", error.reasonName());
        assertEquals("r", error.requestId());
        assertEquals(
                List.of("context", "opts.labels"),
                error.violations().stream().map(PerdureException.FieldViolation::field).toList());
        assertTrue(error.getMessage().startsWith("context: contains a lone surrogate"));
    }
}
