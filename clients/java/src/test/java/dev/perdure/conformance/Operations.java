package dev.perdure.conformance;

import com.google.protobuf.Descriptors.FieldDescriptor;
import com.google.protobuf.Descriptors.OneofDescriptor;
import com.google.protobuf.Message;
import dev.perdure.Payloads;
import dev.perdure.PerdureClient;
import dev.perdure.TlsOptions;
import dev.perdure.Watch;
import dev.perdure.WatchEvent;
import dev.perdure.WatchOptions;
import dev.perdure.v1.BackupDatabaseResponse;
import dev.perdure.v1.ConflictPolicy;
import dev.perdure.v1.HistoryEntry;
import dev.perdure.v1.Instance;
import dev.perdure.v1.InstanceState;
import dev.perdure.v1.Payload;
import dev.perdure.v1.StepDefinition;
import dev.perdure.v1.Timer;
import dev.perdure.v1.Workflow;
import java.nio.file.Path;
import java.time.Duration;
import java.util.HashMap;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Locale;
import java.util.Map;
import java.util.Optional;

/** Each operation of the scenarios as a call of the client; its result as plain values. */
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
            case "retry_instance" -> Map.of("revision", client.retryInstance(
                    args.text("instance_id"), opts -> args.ifText("request_id", opts::setRequestId)).getRevision());
            case "get_timer" -> timer(client.getTimer(args.text("reference")));
            case "list_timers" -> Map.of("timers", client.listTimers(filter -> {
                args.ifText("instance_id", filter::setInstanceId);
                args.ifNumber("page_size", size -> filter.setPageSize(Math.toIntExact(size)));
            }).stream().map(Operations::timer).toList());
            case "cancel_timer" -> Map.of("revision", client.cancelTimer(
                    args.text("reference"), opts -> args.ifText("request_id", opts::setRequestId)).getRevision());
            case "fire_timer" -> fireTimer(args);
            case "backup_database" -> backup(client.backupDatabase(args.text("file_name")));
            case "get_workflow" -> workflow(client.getWorkflow(args.text("workflow"), version(args)));
            case "list_workflows" -> Map.of("workflows", client.listWorkflows().stream()
                    .map(found -> Map.of("name", found.getName(), "version", unsigned(found.getVersion())))
                    .toList());
            case "watch_open" -> watchOpen(args);
            case "watch_next" -> watchNext(args);
            case "watch_close" -> watchClose(args);
            case "close" -> {
                close();
                yield Map.of();
            }
            default -> throw new IllegalArgumentException("no such operation: " + op);
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

    private Map<String, Object> startInstance(Arguments args) {
        Payload context = Payload.newBuilder().build();
        if (args.get("context") != null) {
            context = Payloads.json(args.text("context"));
        }
        var started = client.startInstance(args.text("workflow"), context, opts -> {
            args.ifText("request_id", opts::setRequestId);
            args.ifText("instance_id", opts::setInstanceId);
            opts.setVersion(version(args));
            args.ifText("business_key", opts::setBusinessKey);
            args.ifText("conflict_policy", policy ->
                    opts.setConflictPolicy(ConflictPolicy.valueOf("CONFLICT_POLICY_" + policy)));
            args.ifNumber("start_delay_ms", opts::setStartDelayMs);
            args.eachPair("labels", opts::putLabels);
        });
        return Map.of(
                "instance_id", started.getInstanceId(),
                "created", started.getCreated(),
                "version", unsigned(started.getVersion()),
                "revision", started.getRevision());
    }

    private Map<String, Object> resume(Arguments args) {
        var resumed = client.resume(args.text("instance_id"), args.text("event"), opts -> {
            args.ifText("payload", json -> opts.setPayload(Payloads.json(json)));
            args.ifText("request_id", opts::setRequestId);
            args.ifText("step_ref", opts::setStepRef);
            opts.setBuffer(args.flag("buffer"));
        });
        return Map.of(
                "disposition", shortName(resumed.getDisposition(), "DISPOSITION_"),
                "step_ref", resumed.getStepRef(),
                "revision", resumed.getRevision());
    }

    private Map<String, Object> scheduleResume(Arguments args) {
        var scheduled = client.scheduleResume(
                args.text("instance_id"),
                args.text("step_ref"),
                args.number("delay_ms"),
                opts -> args.ifText("request_id", opts::setRequestId));
        return Map.of("reference", scheduled.getReference(), "revision", scheduled.getRevision());
    }

    private static Map<String, Object> instance(Instance instance) {
        Map<String, Object> outputs = new LinkedHashMap<>();
        instance.getOutputsMap().forEach((ref, output) -> outputs.put(ref, Payloads.text(output)));
        Map<String, Object> error = null;
        if (instance.hasError()) {
            error = Map.of(
                    "step_ref", instance.getError().getStepRef(),
                    "type", instance.getError().getType(),
                    "message", instance.getError().getMessage(),
                    "attempts", unsigned(instance.getError().getAttempts()));
        }
        Map<String, Object> found = new LinkedHashMap<>();
        found.put("instance_id", instance.getInstanceId());
        found.put("workflow", instance.getWorkflow());
        found.put("version", unsigned(instance.getVersion()));
        found.put("state", shortName(instance.getState(), "INSTANCE_STATE_"));
        found.put("revision", instance.getRevision());
        found.put("input", Payloads.text(instance.getInput()));
        found.put("outputs", outputs);
        found.put("active_steps", instance.getActiveStepsList().stream()
                .map(step -> Map.of(
                        "step_ref", step.getStepRef(),
                        "status", shortName(step.getStatus(), "STEP_STATE_"),
                        "attempt", unsigned(step.getAttempt()),
                        "events", List.copyOf(step.getEventsList())))
                .toList());
        found.put("step_results", instance.getStepResultsList().stream()
                .map(result -> Map.of(
                        "step_ref", result.getStepRef(),
                        "status", shortName(result.getStatus(), "STEP_STATE_"),
                        "event", result.getEvent()))
                .toList());
        found.put("error", error);
        found.put("labels", instance.getLabelsMap());
        found.put("business_key", instance.getBusinessKey());
        return found;
    }

    private Map<String, Object> listInstances(Arguments args) {
        var found = client.listInstances(filter -> {
            args.texts("states").forEach(state -> filter.addStates(InstanceState.valueOf("INSTANCE_STATE_" + state)));
            args.ifText("workflow", filter::setWorkflow);
            args.ifText("business_key", filter::setBusinessKey);
            args.ifNumber("page_size", size -> filter.setPageSize(Math.toIntExact(size)));
            args.eachPair("labels", filter::putLabels);
            filter.setVersion(version(args));
            filter.setUnconsumedEvents(args.flag("unconsumed_events"));
        });
        return Map.of("instances", found.stream()
                .map(instance -> Map.of(
                        "instance_id", instance.getInstanceId(),
                        "state", shortName(instance.getState(), "INSTANCE_STATE_"),
                        "revision", instance.getRevision(),
                        "inbox_size", unsigned(instance.getInboxSize())))
                .toList());
    }

    private Map<String, Object> listHistory(Arguments args) {
        var found = client.listHistory(args.text("instance_id"), range -> {
            args.ifNumber("after_revision", range::setAfterRevision);
            args.ifNumber("page_size", size -> range.setPageSize(Math.toIntExact(size)));
        });
        return Map.of("entries", found.stream().map(Operations::entry).toList());
    }

    private static Map<String, Object> entry(HistoryEntry entry) {
        Map<String, Object> told = new LinkedHashMap<>();
        told.put("revision", entry.getRevision());
        told.put("kind", kind(entry));
        fact(entry).ifPresent(fact -> {
            for (String name : List.of("step_ref", "event")) {
                FieldDescriptor field = fact.getDescriptorForType().findFieldByName(name);
                if (field != null) {
                    told.put(name, fact.getField(field));
                }
            }
        });
        return told;
    }

    private static String kind(HistoryEntry entry) {
        return entry.getFactCase() == HistoryEntry.FactCase.FACT_NOT_SET
                ? ""
                : entry.getFactCase().name().toLowerCase(Locale.ROOT);
    }

    private static Optional<Message> fact(HistoryEntry entry) {
        OneofDescriptor facts = HistoryEntry.getDescriptor().getOneofs().get(0);
        return Optional.ofNullable(entry.getOneofFieldDescriptor(facts)).map(set -> (Message) entry.getField(set));
    }

    private Map<String, Object> cancelInstance(Arguments args) {
        var cancelled = client.cancelInstance(args.text("instance_id"), opts -> {
            args.ifText("reason", opts::setReason);
            args.ifText("request_id", opts::setRequestId);
        });
        return Map.of("revision", cancelled.getRevision());
    }

    private Map<String, Object> fireTimer(Arguments args) {
        var fired =
                client.fireTimer(args.text("reference"), opts -> args.ifText("request_id", opts::setRequestId));
        return Map.of("revision", fired.getRevision(), "used", fired.getUsed());
    }

    private static Map<String, Object> backup(BackupDatabaseResponse backup) {
        return Map.of(
                "path", backup.getPath(),
                "size", backup.getSizeBytes() > 0,
                "instances", backup.getInstances() > 0,
                "snapshot", backup.hasSnapshotTime());
    }

    private static Map<String, Object> timer(Timer timer) {
        return Map.of(
                "reference", timer.getReference(),
                "step_ref", timer.getStepRef(),
                "kind", shortName(timer.getKind(), "TIMER_KIND_"));
    }

    private static Map<String, Object> workflow(Workflow workflow) {
        return Map.of(
                "name", workflow.getName(),
                "version", unsigned(workflow.getVersion()),
                "digest", workflow.getDigest(),
                "start", workflow.getStart(),
                "steps", workflow.getStepsList().stream().map(StepDefinition::getStepRef).toList());
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
            return Map.of("event", "entry", "revision", event.revision(), "kind", kind(entry.entry()));
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

    private static int version(Arguments args) {
        // A uint32 is an int whose sign bit counts.
        return (int) args.number("version");
    }

    private static long unsigned(int value) {
        return Integer.toUnsignedLong(value);
    }

    private static String shortName(Enum<?> value, String prefix) {
        if (value.name().equals("UNRECOGNIZED")) {
            return "UNKNOWN"; // the scenarios' word for what only a newer client knows
        }
        return value.name().startsWith(prefix) ? value.name().substring(prefix.length()) : value.name();
    }
}
