package dev.perdure.conformance;

import dev.perdure.Backup;
import dev.perdure.ConflictPolicy;
import dev.perdure.Fact;
import dev.perdure.HistoryEntry;
import dev.perdure.Instance;
import dev.perdure.InstanceState;
import dev.perdure.MutationOptions;
import dev.perdure.PerdureClient;
import dev.perdure.RawJson;
import dev.perdure.ResumeOptions;
import dev.perdure.StepDefinition;
import dev.perdure.Timer;
import dev.perdure.TlsOptions;
import dev.perdure.Watch;
import dev.perdure.WatchEvent;
import dev.perdure.WatchOptions;
import dev.perdure.WorkflowVersion;
import java.lang.reflect.RecordComponent;
import java.nio.file.Path;
import java.time.Duration;
import java.time.Instant;
import java.util.HashMap;
import java.util.LinkedHashMap;
import java.util.Map;
import java.util.Optional;
import java.util.function.Consumer;

/** Operations of the scenarios: each is a call of the client and returns its result as plain values. */
final class Operations implements AutoCloseable {
    private final Map<String, Watch> watches = new HashMap<>();
    private PerdureClient client;

    Map<String, Object> run(String op, Arguments args) {
        return switch (op) {
            case "connect" -> connect(args);
            case "start_instance" -> startInstance(args);
            case "resume" -> resume(args);
            case "schedule_resume" -> scheduleResume(args);
            case "get_instance" -> instance(client.getInstance(args.text("instance_id")));
            case "list_instances" -> listInstances(args);
            case "list_history" -> listHistory(args);
            case "cancel_instance" -> cancelInstance(args);
            case "retry_instance" -> Map.of(
                    "revision", client.retryInstance(args.text("instance_id"), requestId(args)).revision());
            case "get_timer" -> timer(client.getTimer(args.text("reference")));
            case "list_timers" -> Map.of(
                    "timers",
                    client
                            .listTimers(
                                    args.text("instance_id"),
                                    opts -> args.ifNumber("page_size", size -> opts.pageSize(Math.toIntExact(size))))
                            .stream()
                            .map(Operations::timer)
                            .toList());
            case "cancel_timer" -> Map.of(
                    "revision", client.cancelTimer(args.text("reference"), requestId(args)).revision());
            case "fire_timer" -> fireTimer(args);
            case "backup_database" -> backup(client.backupDatabase(args.text("file_name")));
            case "get_workflow" -> workflow(client.getWorkflow(args.text("workflow"), args.number("version")));
            case "list_workflows" -> Map.of(
                    "workflows",
                    client.listWorkflows().stream()
                            .map(found -> Map.of("name", found.name(), "version", found.version()))
                            .toList());
            case "watch_open" -> watchOpen(args);
            case "watch_next" -> watchNext(args);
            case "watch_close" -> watchClose(args);
            case "close" -> {
                close();
                yield Map.of();
            }
            default -> throw new IllegalArgumentException("unknown operation: " + op);
        };
    }

    @Override
    public void close() {
        watches.values().forEach(Watch::close);
        watches.clear();
        if (client != null) {
            client.close();
        }
    }

    private Map<String, Object> connect(Arguments args) {
        close();
        PerdureClient.Builder builder = PerdureClient.builder(args.text("target"));
        if (!args.text("ca").isEmpty()) {
            TlsOptions tls = TlsOptions.trusting(Path.of(args.text("ca")));
            if (!args.text("cert").isEmpty()) {
                tls = tls.withCertificate(Path.of(args.text("cert")), Path.of(args.text("key")));
            }
            builder.tls(tls);
        }
        client = builder.build();
        return Map.of();
    }

    private static Consumer<MutationOptions> requestId(Arguments args) {
        return opts -> args.ifText("request_id", opts::requestId);
    }

    private Map<String, Object> startInstance(Arguments args) {
        Object context = args.get("context") == null ? Map.of() : new RawJson(args.text("context"));
        var started = client.startInstance(args.text("workflow"), context, opts -> {
            args.ifText("request_id", opts::requestId);
            args.ifText("instance_id", opts::instanceId);
            opts.version(args.number("version"));
            args.ifText("business_key", opts::businessKey);
            args.ifText("conflict_policy", policy -> opts.conflictPolicy(ConflictPolicy.valueOf(policy)));
            args.ifNumber("start_delay_ms", delay -> opts.startDelay(Duration.ofMillis(delay)));
            args.eachPair("labels", opts::label);
        });
        return Map.of(
                "instance_id", started.instanceId(),
                "created", started.created(),
                "version", started.version(),
                "revision", started.revision());
    }

    private Map<String, Object> resume(Arguments args) {
        Consumer<ResumeOptions> options = opts -> {
            args.ifText("request_id", opts::requestId);
            args.ifText("step_ref", opts::stepRef);
            opts.buffer(args.flag("buffer"));
        };
        String id = args.text("instance_id");
        String event = args.text("event");
        var resumed = args.get("payload") == null
                ? client.resume(id, event, options)
                : client.resume(id, event, new RawJson(args.text("payload")), options);
        return Map.of(
                "disposition", resumed.disposition().name(),
                "step_ref", resumed.stepRef(),
                "revision", resumed.revision());
    }

    private Map<String, Object> scheduleResume(Arguments args) {
        var scheduled = client.scheduleResume(
                args.text("instance_id"),
                args.text("step_ref"),
                Duration.ofMillis(args.number("delay_ms")),
                requestId(args));
        return Map.of("reference", scheduled.reference(), "revision", scheduled.revision());
    }

    private static Map<String, Object> instance(Instance instance) {
        Map<String, Object> outputs = new LinkedHashMap<>();
        instance.outputs().forEach((ref, output) -> outputs.put(ref, output.text()));
        Map<String, Object> found = new LinkedHashMap<>();
        found.put("instance_id", instance.instanceId());
        found.put("workflow", instance.workflow());
        found.put("version", instance.version());
        found.put("state", instance.state().name());
        found.put("revision", instance.revision());
        found.put("input", instance.input().text());
        found.put("outputs", outputs);
        found.put("active_steps", instance.activeSteps().stream()
                .map(step -> Map.of(
                        "step_ref", step.stepRef(),
                        "state", step.state().name(),
                        "attempt", step.attempt(),
                        "events", step.events()))
                .toList());
        found.put("step_results", instance.stepResults().stream()
                .map(result -> Map.of(
                        "step_ref", result.stepRef(),
                        "state", result.state().name(),
                        "event", result.event()))
                .toList());
        found.put("error", instance.error()
                .map(error -> Map.of(
                        "step_ref", error.stepRef(),
                        "type", error.type(),
                        "message", error.message(),
                        "attempts", error.attempts()))
                .orElse(null));
        found.put("labels", instance.labels());
        found.put("business_key", instance.businessKey());
        return found;
    }

    private Map<String, Object> listInstances(Arguments args) {
        var found = client.listInstances(filter -> {
            args.texts("states").forEach(state -> filter.states(InstanceState.valueOf(state)));
            args.ifText("workflow", filter::workflow);
            args.ifText("business_key", filter::businessKey);
            args.ifNumber("page_size", size -> filter.pageSize(Math.toIntExact(size)));
            args.eachPair("labels", filter::label);
            filter.version(args.number("version"));
            filter.unconsumedEvents(args.flag("unconsumed_events"));
        });
        return Map.of("instances", found.stream()
                .map(instance -> Map.of(
                        "instance_id", instance.instanceId(),
                        "state", instance.state().name(),
                        "revision", instance.revision(),
                        "inbox_size", instance.inboxSize()))
                .toList());
    }

    private Map<String, Object> listHistory(Arguments args) {
        var found = client.listHistory(args.text("instance_id"), opts -> {
            args.ifNumber("after_revision", opts::afterRevision);
            args.ifNumber("page_size", size -> opts.pageSize(Math.toIntExact(size)));
        });
        return Map.of("entries", found.stream().map(Operations::entry).toList());
    }

    private static Map<String, Object> entry(HistoryEntry entry) {
        Map<String, Object> found = new LinkedHashMap<>();
        found.put("revision", entry.revision());
        found.put("kind", entry.kind());
        component(entry.fact(), "stepRef").ifPresent(stepRef -> found.put("step_ref", stepRef));
        component(entry.fact(), "event").ifPresent(event -> found.put("event", event));
        return found;
    }

    /** Returns a component of a fact, if the fact has it. */
    private static Optional<Object> component(Fact fact, String name) {
        for (RecordComponent component : fact.getClass().getRecordComponents()) {
            if (component.getName().equals(name)) {
                try {
                    return Optional.of(component.getAccessor().invoke(fact));
                } catch (ReflectiveOperationException defect) {
                    throw new IllegalStateException(defect);
                }
            }
        }
        return Optional.empty();
    }

    private Map<String, Object> cancelInstance(Arguments args) {
        var cancelled = client.cancelInstance(args.text("instance_id"), opts -> {
            args.ifText("reason", opts::reason);
            args.ifText("request_id", opts::requestId);
        });
        return Map.of("revision", cancelled.revision());
    }

    private Map<String, Object> fireTimer(Arguments args) {
        var fired = client.fireTimer(args.text("reference"), requestId(args));
        return Map.of("revision", fired.revision(), "used", fired.used());
    }

    private static Map<String, Object> backup(Backup backup) {
        return Map.of(
                "path", backup.path(),
                "size", backup.sizeBytes() > 0,
                "instances", backup.instances() > 0,
                "snapshot", backup.snapshotTime().isAfter(Instant.EPOCH));
    }

    private static Map<String, Object> timer(Timer timer) {
        return Map.of(
                "reference", timer.reference(), "step_ref", timer.stepRef(), "kind", timer.kind().name());
    }

    private static Map<String, Object> workflow(WorkflowVersion workflow) {
        return Map.of(
                "name", workflow.name(),
                "version", workflow.version(),
                "digest", workflow.digest(),
                "start", workflow.start(),
                "steps", workflow.steps().stream().map(StepDefinition::stepRef).toList());
    }

    private Map<String, Object> watchOpen(Arguments args) {
        WatchOptions options = WatchOptions.DEFAULT;
        if (args.get("after_revision") != null) {
            options = options.withAfterRevision(args.number("after_revision"));
        }
        watches.put(args.text("watch"), client.watchInstance(args.text("instance_id"), options));
        return Map.of();
    }

    private Map<String, Object> watchNext(Arguments args) {
        Watch watch = watches.get(args.text("watch"));
        Optional<WatchEvent> next = watch.poll(Duration.ofMillis(args.number("timeout_ms")));
        if (next.isEmpty()) {
            return Map.of("event", "timeout");
        }
        WatchEvent event = next.get();
        if (event instanceof WatchEvent.Snapshot) {
            return Map.of("event", "snapshot", "revision", event.revision());
        } else if (event instanceof WatchEvent.Entry entry) {
            return Map.of("event", "entry", "revision", event.revision(), "kind", entry.entry().kind());
        }
        return Map.of("event", "end", "revision", event.revision());
    }

    private Map<String, Object> watchClose(Arguments args) {
        Watch watch = watches.remove(args.text("watch"));
        if (watch != null) {
            watch.close();
        }
        return Map.of();
    }
}
