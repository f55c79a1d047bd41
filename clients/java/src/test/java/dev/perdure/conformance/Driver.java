package dev.perdure.conformance;

import dev.perdure.Json;
import dev.perdure.PerdureException;
import io.grpc.Status;
import java.io.BufferedReader;
import java.io.FileDescriptor;
import java.io.FileInputStream;
import java.io.FileOutputStream;
import java.io.IOException;
import java.io.InputStream;
import java.io.InputStreamReader;
import java.io.PrintStream;
import java.nio.charset.StandardCharsets;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;

/**
 * Driver of the conformance scenarios: reads JSON lines and writes one JSON line for each, in order.
 *
 * <p>Owns the lines and the errors. {@link Operations} owns the operations.
 */
public final class Driver {
    private Driver() {}

    public static void main(String[] args) throws IOException {
        // The lines are UTF-8, whatever the locale of the platform.
        InputStream bytes = new FileInputStream(FileDescriptor.in);
        BufferedReader in = new BufferedReader(new InputStreamReader(bytes, StandardCharsets.UTF_8));
        PrintStream out =
                new PrintStream(new FileOutputStream(FileDescriptor.out), false, StandardCharsets.UTF_8);
        try (Operations operations = new Operations()) {
            for (String line = in.readLine(); line != null; line = in.readLine()) {
                if (line.isBlank()) {
                    continue;
                }
                Arguments request = Arguments.of(Json.read(line));
                String op = request.text("op");
                Map<String, Object> response = new LinkedHashMap<>();
                response.put("id", request.get("id"));
                try {
                    response.put("ok", operations.run(op, request.nested("args")));
                } catch (PerdureException failed) {
                    response.put("error", error(failed));
                } catch (RuntimeException defect) {
                    // A defect of the scenario or of the client: no reason, and a code that no server sends.
                    defect.printStackTrace();
                    response.put("error", error("", Status.Code.UNKNOWN, defect.toString(), Map.of(), List.of()));
                }
                out.print(Json.write(response) + "\n");
                out.flush();
                if ("close".equals(op)) {
                    return;
                }
            }
        }
    }

    private static Map<String, Object> error(PerdureException error) {
        List<Object> violations = error.violations().stream()
                .<Object>map(v -> Map.of("field", v.field(), "description", v.description()))
                .toList();
        return error(error.reasonName(), error.code(), error.getMessage(), error.metadata(), violations);
    }

    private static Map<String, Object> error(
            String reason, Status.Code code, String message, Map<String, String> metadata, List<Object> violations) {
        Map<String, Object> error = new LinkedHashMap<>();
        error.put("reason", reason);
        error.put("code", code.name());
        error.put("message", message);
        error.put("metadata", metadata);
        error.put("violations", violations);
        return error;
    }
}
