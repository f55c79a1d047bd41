package dev.perdure;

import dev.perdure.v1.Payload;

/**
 * A JSON library of your choice, for classes of your own. This package depends on none: two method references do.
 *
 * <pre>{@code
 * JsonCodec json = JsonCodec.of(mapper::writeValueAsString, mapper::readValue);  // Jackson's ObjectMapper
 * JsonCodec json = JsonCodec.of(gson::toJson, gson::fromJson);                   // Gson
 *
 * client.startInstance("order", json.payload(new Order(List.of("lamp"), 4900)));
 * Order order = json.value(client.getInstance(id).getInput(), Order.class);
 * }</pre>
 */
public final class JsonCodec {
    /** Writes a value as JSON text. */
    @FunctionalInterface
    public interface Writer {
        String write(Object value) throws Exception;
    }

    /** Reads JSON text as a value of a class. */
    @FunctionalInterface
    public interface Reader {
        <T> T read(String json, Class<T> type) throws Exception;
    }

    private final Writer writer;
    private final Reader reader;

    private JsonCodec(Writer writer, Reader reader) {
        this.writer = writer;
        this.reader = reader;
    }

    /** Makes a codec of the two halves of a library. */
    public static JsonCodec of(Writer writer, Reader reader) {
        return new JsonCodec(writer, reader);
    }

    /**
     * Returns a value as a payload.
     *
     * @throws IllegalArgumentException if the library cannot write it
     */
    public Payload payload(Object value) {
        try {
            return Payloads.json(writer.write(value));
        } catch (Exception refused) {
            throw new IllegalArgumentException("the value cannot be written as JSON: " + refused.getMessage(), refused);
        }
    }

    /**
     * Returns a payload as a value.
     *
     * @throws IllegalArgumentException if the library cannot read it as one
     */
    public <T> T value(Payload payload, Class<T> type) {
        try {
            return reader.read(Payloads.text(payload), type);
        } catch (Exception refused) {
            throw new IllegalArgumentException(
                    "the payload is no " + type.getSimpleName() + ": " + refused.getMessage(), refused);
        }
    }
}
