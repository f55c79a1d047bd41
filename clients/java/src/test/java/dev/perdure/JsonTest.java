package dev.perdure;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import com.fasterxml.jackson.databind.ObjectMapper;
import com.google.gson.Gson;
import dev.perdure.v1.Payload;
import dev.perdure.v1.StartInstanceRequest;
import dev.perdure.v1.StartOptions;
import java.math.BigDecimal;
import java.math.BigInteger;
import java.util.Arrays;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import org.junit.jupiter.api.DisplayNameGeneration;
import org.junit.jupiter.api.DisplayNameGenerator;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.ValueSource;

@DisplayNameGeneration(DisplayNameGenerator.ReplaceUnderscores.class)
class JsonTest {
    /** What a user's own class looks like to Jackson and Gson alike. */
    static final class Order {
        public List<String> items = List.of();
        public long cents;
    }

    @Test
    void plain_values_come_back_as_they_went() {
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
    void numbers_keep_their_kind() {
        assertEquals(
                List.of(1L, 0L, -3L, new BigInteger("9223372036854775808"), new BigDecimal("1.0"), new BigDecimal("2e3")),
                Json.read(" [1, -0, -3, 9223372036854775808, 1.0, 2e3 ] "));
        assertEquals("[1,2.5,3.0,4]", Json.write(new Object[] {1, 2.5, 3f, (byte) 4}));
    }

    @Test
    void escapes_are_read() {
        String escaped = "\"\\\"\\\\\\/\\b\\f\\n\\r\\t\\u00e9\\uD83D\\ude00\"";

        assertEquals("\"\\/\b\f\n\r\té😀", Json.read(escaped));
    }

    @ParameterizedTest
    @ValueSource(
            strings = {
                "", " ", "nul", "nulll", "tru", "01", "-", "1.", ".5", "1e", "+1", "NaN", "Infinity", "'a'", "\"a",
                "\"\n\"", "\"\\x\"", "\"\\u12g4\"", "[1,]", "[1 2]", "[", "{\"a\"}", "{\"a\":1,}", "{a:1}", "{1:1}",
                "[1]]", "1 1", "// c", "\u00a01"
            })
    void what_is_no_json_is_refused(String text) {
        assertThrows(IllegalArgumentException.class, () -> Json.read(text));
    }

    @Test
    void what_json_cannot_say_is_refused_with_its_place() {
        for (Object[] bad : new Object[][] {
            {Double.NaN, "no JSON at .items[1]: JSON has no NaN"},
            {Map.of(1, 2), "no JSON at .items[1]: has the key 1, which is no string"},
            {"\ud800", "no JSON at .items[1]: holds a lone surrogate"},
            {new Order(), "no JSON at .items[1]: JSON has no dev.perdure.JsonTest$Order"},
        }) {
            Object value = Map.of("items", Arrays.asList(1, bad[0]));
            Exception refused = assertThrows(IllegalArgumentException.class, () -> Payloads.of(value));
            assertEquals(bad[1], refused.getMessage());
        }
    }

    @Test
    void nesting_and_long_numbers_are_bounded() {
        String deep = "[".repeat(100) + "]".repeat(100);
        assertEquals(deep, Json.write(Json.read(deep)));
        assertThrows(IllegalArgumentException.class, () -> Json.read("[" + deep + "]"));
        assertThrows(IllegalArgumentException.class, () -> Json.write(List.of(Json.read(deep))));
        assertThrows(IllegalArgumentException.class, () -> Json.read("9".repeat(1_001)));
        assertThrows(IllegalArgumentException.class, () -> Json.read("1e99999999999"));
    }

    @Test
    void a_payload_is_its_text_to_the_byte() {
        String text = " {\"a\" : 1.50, \"b\":18446744073709551616,\"a\":\"ż\"}";

        assertEquals(text, Payloads.text(Payloads.json(text)));
        assertEquals("null", Payloads.text(Payload.getDefaultInstance()));
    }

    @Test
    void a_library_of_the_users_choice_takes_two_method_references() {
        ObjectMapper mapper = new ObjectMapper();
        Gson gson = new Gson();
        Order order = new Order();
        order.items = List.of("lamp", "ż😀");
        order.cents = Long.MAX_VALUE;

        for (JsonCodec json : List.of(
                JsonCodec.of(mapper::writeValueAsString, mapper::readValue),
                JsonCodec.of(gson::toJson, gson::fromJson))) {
            Payload payload = json.payload(order);
            Order back = json.value(payload, Order.class);

            assertEquals("{\"items\":[\"lamp\",\"ż😀\"],\"cents\":9223372036854775807}", Payloads.text(payload));
            assertEquals(order.items, back.items);
            assertEquals(order.cents, back.cents);
            assertThrows(IllegalArgumentException.class, () -> json.value(Payloads.json("[1]"), Order.class));
        }
    }

    @Test
    void a_request_with_text_that_is_no_unicode_never_leaves() {
        StartInstanceRequest request = StartInstanceRequest.newBuilder()
                .setWorkflow("order")
                .setContext(Payloads.json("\"\udc00\""))
                .setOpts(StartOptions.newBuilder().putLabels("a", "fine 😀").putLabels("b", "\ud83d"))
                .build();

        PerdureException refused = assertThrows(PerdureException.class, () -> Requests.check(request, "r"));

        assertEquals("INVALID_FIELD", refused.reasonName());
        assertEquals("r", refused.requestId());
        assertEquals(
                List.of("context", "opts.labels"),
                refused.violations().stream().map(PerdureException.FieldViolation::field).toList());
        assertTrue(refused.getMessage().startsWith("context: holds a lone surrogate"));
    }
}
