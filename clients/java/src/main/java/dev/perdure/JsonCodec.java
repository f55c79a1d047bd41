package dev.perdure;

/**
 * Adapter for a JSON library of your choice, to convert classes of your own. Two method references are enough.
 *
 * <pre>{@code
 * JsonCodec json = JsonCodec.of(mapper::writeValueAsString, mapper::readValue);  // Jackson's ObjectMapper
 * JsonCodec json = JsonCodec.of(gson::toJson, gson::fromJson);                   // Gson
 *
 * client.startInstance("order", json.write(new Order(List.of("lamp"), 4900)));
 * Order order = json.read(client.getInstance(id).input(), Order.class);
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

    /** Creates a codec from the two methods of a library. */
    public static JsonCodec of(Writer writer, Reader reader) {
        return new JsonCodec(writer, reader);
    }

    /**
     * Returns a value as JSON text.
     *
     * @throws IllegalArgumentException if the library cannot write the value
     */
    public RawJson write(Object value) {
        try {
            return new RawJson(writer.write(value));
        } catch (Exception failed) {
            throw new IllegalArgumentException("value cannot be written as JSON: " + failed.getMessage(), failed);
        }
    }

    /**
     * Returns JSON text as a value.
     *
     * @throws IllegalArgumentException if the library cannot read the text as this type
     */
    public <T> T read(RawJson json, Class<T> type) {
        try {
            return reader.read(json.text(), type);
        } catch (Exception failed) {
            throw new IllegalArgumentException(
                    "JSON cannot be read as " + type.getSimpleName() + ": " + failed.getMessage(), failed);
        }
    }
}
