package dev.perdure.conformance;

import java.util.List;
import java.util.Map;
import java.util.Optional;
import java.util.function.BiConsumer;
import java.util.function.Consumer;

/** Arguments of one operation. An absent argument has the default of the API. */
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

    /** Returns a string; empty if it is absent. */
    String text(String name) {
        return values.get(name) == null ? "" : (String) values.get(name);
    }

    /** Returns an integer; 0 if it is absent. */
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

    /** Calls {@code use} with a string if it is present, even if it is empty. */
    void ifText(String name, Consumer<String> use) {
        Optional.ofNullable((String) values.get(name)).ifPresent(use);
    }

    /** Calls {@code use} with a number if it is present, even if it is 0. */
    void ifNumber(String name, Consumer<Long> use) {
        Optional.ofNullable((Long) values.get(name)).ifPresent(use);
    }
}
