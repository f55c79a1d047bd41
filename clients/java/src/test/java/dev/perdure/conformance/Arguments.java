package dev.perdure.conformance;

import java.util.List;
import java.util.Map;
import java.util.Optional;
import java.util.function.BiConsumer;
import java.util.function.Consumer;

/** The arguments of one operation; those that are absent have the API's defaults. */
final class Arguments {
    private final Map<?, ?> values;

    private Arguments(Map<?, ?> values) {
        this.values = values;
    }

    static Arguments of(Object json) {
        return new Arguments((Map<?, ?>) json);
    }

    Object get(String name) {
        return values.get(name);
    }

    Arguments nested(String name) {
        return of(values.get(name) == null ? Map.of() : values.get(name));
    }

    /** A string; empty where it is absent. */
    String text(String name) {
        return values.get(name) == null ? "" : (String) values.get(name);
    }

    /** A whole number; 0 where it is absent. */
    long number(String name) {
        return values.get(name) == null ? 0 : (Long) values.get(name);
    }

    boolean flag(String name) {
        return Boolean.TRUE.equals(values.get(name));
    }

    List<String> texts(String name) {
        return values.get(name) == null
                ? List.of()
                : ((List<?>) values.get(name)).stream().map(String.class::cast).toList();
    }

    void eachPair(String name, BiConsumer<String, String> use) {
        if (values.get(name) != null) {
            ((Map<?, ?>) values.get(name)).forEach((key, value) -> use.accept((String) key, (String) value));
        }
    }

    /** Hands on a string that is there, be it empty. */
    void ifText(String name, Consumer<String> use) {
        Optional.ofNullable((String) values.get(name)).ifPresent(use);
    }

    /** Hands on a number that is there, be it 0. */
    void ifNumber(String name, Consumer<Long> use) {
        Optional.ofNullable((Long) values.get(name)).ifPresent(use);
    }
}
