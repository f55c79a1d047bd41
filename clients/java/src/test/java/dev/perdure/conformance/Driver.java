package dev.perdure.conformance;

import dev.perdure.Json;
import dev.perdure.PerdureException;
import io.grpc.Status;
import java.io.BufferedReader;
import java.io.FileDescriptor;
import java.io.FileInputStream;
import java.io.FileOutputStream;
import java.io.IOException;
import java.io.InputStreamReader;
import java.io.PrintStream;
import java.nio.charset.StandardCharsets;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;

/**
 * Runs the shared scenarios through this client: JSON lines in, JSON lines out, one answer per request, in order.
 *
 * <p>What lives here: the lines and the errors. What each operation does is in {@link Operations}.
 */
public final class Driver {
    private Driver() {}

    public static void main(String[] args) throws IOException {
        // Not the platform's charset: the lines are UTF-8 whatever the locale says.
        BufferedReader in =
                new BufferedReader(new InputStreamReader(new FileInputStream(FileDescriptor.in), StandardCharsets.UTF_8));
        PrintStream out =
                new PrintStream(new FileOutputStream(FileDescriptor.out), false, StandardCharsets.UTF_8);
        try (Operations operations = new Operations()) {
            for (String line = in.readLine(); line != null; line = in.readLine()) {
                if (line.isBlank()) {
                    continue;
                }
                Arguments request = Arguments.of(Json.read(line));
                String op = request.text("op");
                Map<String, Object> answer = new LinkedHashMap<>();
                answer.put("id", request.get("id"));
                try {
                    answer.put("ok", operations.run(op, request.nested("args")));
                } catch (PerdureException refused) {
                    answer.put("error", error(refused));
                } catch (RuntimeException broken) {
                    // A defect of the scenario or of the client: no reason, and a status that no server sends.
                    broken.printStackTrace();
                    answer.put("error", error("", Status.Code.UNKNOWN, broken.toString(), Map.of(), List.of()));
                }
                out.print(Json.write(answer) + "\n");
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
        return error(error.reasonName(), error.status(), error.getMessage(), error.metadata(), violations);
    }

    private static Map<String, Object> error(
            String reason, Status.Code status, String message, Map<String, String> metadata, List<Object> violations) {
        Map<String, Object> error = new LinkedHashMap<>();
        error.put("reason", reason);
        error.put("status", status.name());
        error.put("message", message);
        error.put("metadata", metadata);
        error.put("violations", violations);
        return error;
    }
}
