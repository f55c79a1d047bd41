package dev.perdure;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertInstanceOf;
import static org.junit.jupiter.api.Assertions.assertNotEquals;
import static org.junit.jupiter.api.Assertions.assertTrue;

import com.google.protobuf.Descriptors.EnumDescriptor;
import com.google.protobuf.Descriptors.EnumValueDescriptor;
import com.google.protobuf.Descriptors.FieldDescriptor;
import com.google.protobuf.Message;
import com.google.protobuf.Timestamp;
import io.grpc.health.v1.HealthCheckResponse.ServingStatus;
import java.lang.reflect.RecordComponent;
import java.time.Duration;
import java.time.Instant;
import java.util.Collection;
import java.util.List;
import java.util.Locale;
import java.util.Map;
import java.util.Optional;
import java.util.Set;
import java.util.TreeSet;
import java.util.stream.Stream;
import org.junit.jupiter.api.DisplayNameGeneration;
import org.junit.jupiter.api.DisplayNameGenerator;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.Arguments;
import org.junit.jupiter.params.provider.MethodSource;

/** Compares the records of the package with the messages of the API: every field and every enum value arrives. */
@DisplayNameGeneration(DisplayNameGenerator.ReplaceUnderscores.class)
class ConvertTest {
    static Stream<Arguments> enums() {
        return Stream.of(
                Arguments.of(InstanceState.class, dev.perdure.v1.InstanceState.getDescriptor(), "INSTANCE_STATE_"),
                Arguments.of(StepState.class, dev.perdure.v1.StepState.getDescriptor(), "STEP_STATE_"),
                Arguments.of(StepKind.class, dev.perdure.v1.StepKind.getDescriptor(), "STEP_KIND_"),
                Arguments.of(TimerKind.class, dev.perdure.v1.TimerKind.getDescriptor(), "TIMER_KIND_"),
                Arguments.of(JoinRule.class, dev.perdure.v1.JoinRule.getDescriptor(), "JOIN_RULE_"),
                Arguments.of(Disposition.class, dev.perdure.v1.Disposition.getDescriptor(), "DISPOSITION_"),
                Arguments.of(ConflictPolicy.class, dev.perdure.v1.ConflictPolicy.getDescriptor(), "CONFLICT_POLICY_"),
                Arguments.of(WatchEndReason.class, dev.perdure.v1.WatchEndReason.getDescriptor(), "WATCH_END_REASON_"),
                Arguments.of(ErrorReason.class, dev.perdure.v1.ErrorReason.getDescriptor(), "ERROR_REASON_"),
                Arguments.of(Health.class, ServingStatus.getDescriptor(), ""));
    }

    @ParameterizedTest
    @MethodSource("enums")
    void enums_have_every_value_of_the_api(Class<? extends Enum<?>> type, EnumDescriptor api, String prefix) {
        Set<String> missing = new TreeSet<>();
        for (EnumValueDescriptor value : api.getValues()) {
            missing.add(value.getName().substring(prefix.length()));
        }
        for (Enum<?> constant : type.getEnumConstants()) {
            missing.remove(constant.name());
        }
        missing.remove("UNSPECIFIED"); // never sent

        assertEquals(Set.of(), missing);
    }

    @Test
    void enum_values_of_a_newer_server_are_unknown() {
        dev.perdure.v1.Instance message =
                dev.perdure.v1.Instance.newBuilder().setStateValue(99).build();

        assertEquals(InstanceState.UNKNOWN, Convert.instance(message).state());
        assertEquals(InstanceState.UNKNOWN, Convert.instance(dev.perdure.v1.Instance.getDefaultInstance()).state());
    }

    @Test
    void states_tell_whether_they_are_final() {
        for (InstanceState state : InstanceState.values()) {
            boolean isFinal = state == InstanceState.COMPLETED || state == InstanceState.CANCELLED;
            assertEquals(isFinal, state.isFinal());
            assertEquals(isFinal || state == InstanceState.FAILED, state.hasEnded());
        }
    }

    @Test
    void every_fact_is_converted() throws Exception {
        List<FieldDescriptor> facts =
                dev.perdure.v1.HistoryEntry.getDescriptor().getOneofs().get(0).getFields();
        for (FieldDescriptor field : facts) {
            dev.perdure.v1.HistoryEntry.Builder message =
                    dev.perdure.v1.HistoryEntry.newBuilder().setRevision(3).setRequestId("r");
            message.setField(field, filled(message.newBuilderForField(field)));

            HistoryEntry entry = Convert.entry(message.build());

            assertEquals(field.getName(), entry.kind());
            assertEquals(field.getMessageType().getName(), entry.fact().getClass().getSimpleName());
            assertComplete(field.getMessageType().getFields(), entry.fact());
        }
        // One record for each fact, and UnknownFact.
        assertEquals(facts.size() + 1, Fact.class.getPermittedSubclasses().length);
    }

    @Test
    void a_fact_of_a_newer_server_is_unknown() {
        HistoryEntry entry = Convert.entry(dev.perdure.v1.HistoryEntry.newBuilder()
                .setRevision(3)
                .setTime(Timestamp.newBuilder().setSeconds(5).setNanos(7))
                .build());

        assertEquals(new HistoryEntry(3, Instant.ofEpochSecond(5, 7), "", new Fact.UnknownFact(), ""), entry);
    }

    @Test
    void every_field_of_a_record_is_filled() throws Exception {
        var instance = dev.perdure.v1.Instance.newBuilder();
        assertComplete(instance.getDescriptorForType().getFields(), Convert.instance(filled(instance)));
        var summary = dev.perdure.v1.InstanceSummary.newBuilder();
        assertComplete(summary.getDescriptorForType().getFields(), Convert.instanceSummary(filled(summary)));
        var timer = dev.perdure.v1.Timer.newBuilder();
        assertComplete(timer.getDescriptorForType().getFields(), Convert.timer(filled(timer)));
        var listed = dev.perdure.v1.WorkflowSummary.newBuilder();
        assertComplete(listed.getDescriptorForType().getFields(), Convert.workflowSummary(filled(listed)));
        var workflow = dev.perdure.v1.Workflow.newBuilder();
        assertComplete(workflow.getDescriptorForType().getFields(), Convert.workflow(filled(workflow)));
    }

    @Test
    void outputs_are_in_the_order_in_which_their_steps_ended() {
        dev.perdure.v1.Instance.Builder message = dev.perdure.v1.Instance.newBuilder();
        List<String> order = List.of("pay", "check", "ship", "archive");
        for (String ref : order) {
            message.addStepResults(dev.perdure.v1.StepResult.newBuilder().setStepRef(ref));
        }
        for (String ref : List.of("archive", "check", "pay", "ship")) {
            message.putOutputs(ref, dev.perdure.Arguments.payload("output", ref));
        }

        Instance instance = Convert.instance(message.build());

        assertEquals(order, List.copyOf(instance.outputs().keySet()));
        assertEquals("\"ship\"", instance.outputs().get("ship").text());
    }

    @Test
    void unsigned_numbers_keep_their_value() {
        dev.perdure.v1.Instance message =
                dev.perdure.v1.Instance.newBuilder().setVersion(-1).build();

        assertEquals(4_294_967_295L, Convert.instance(message).version());
    }

    @Test
    void a_step_definition_has_its_transitions_and_retry_policy() {
        dev.perdure.v1.StepDefinition step = filled(dev.perdure.v1.StepDefinition.newBuilder());
        WorkflowVersion workflow =
                Convert.workflow(dev.perdure.v1.Workflow.newBuilder().addSteps(step).build());

        StepDefinition found = workflow.steps().get(0);

        Duration duration = Duration.ofSeconds(1, 2);
        assertEquals("step_ref", found.stepRef());
        assertEquals(StepKind.TASK, found.kind());
        assertEquals(Map.of("event", List.of("targets")), found.on());
        assertEquals(List.of("events"), found.events());
        assertEquals(JoinRule.AUTO, found.join());
        assertEquals(Optional.of(new RetryPolicy(1, duration, duration, 4, 5)), found.retry());
        assertEquals(Optional.of(duration), found.attemptTimeout());
        assertEquals(Optional.of(duration), found.waitTimeout());
        assertEquals(Optional.of(duration), found.sleep());
    }

    /** Sets every field: strings to their own name, numbers to their field number, enums to their second value. */
    @SuppressWarnings("unchecked")
    private static <M extends Message> M filled(Message.Builder builder) {
        for (FieldDescriptor field : builder.getDescriptorForType().getFields()) {
            Object value =
                    switch (field.getJavaType()) {
                        case STRING -> field.getName();
                        case INT -> field.getNumber();
                        case LONG -> (long) field.getNumber();
                        case DOUBLE -> (double) field.getNumber();
                        case BOOLEAN -> true;
                        case ENUM -> field.getEnumType().getValues().get(1);
                        case MESSAGE -> filled(builder.newBuilderForField(field));
                        default -> throw new AssertionError(field);
                    };
            if (field.isRepeated()) {
                builder.addRepeatedField(field, value);
            } else {
                builder.setField(field, value);
            }
        }
        return (M) builder.build();
    }

    private static void assertComplete(List<FieldDescriptor> fields, Object converted) throws Exception {
        RecordComponent[] components = converted.getClass().getRecordComponents();
        assertEquals(
                fields.stream().map(field -> camelCase(field.getName())).toList(),
                Stream.of(components).map(RecordComponent::getName).toList());
        for (int i = 0; i < components.length; i++) {
            FieldDescriptor field = fields.get(i);
            Object value = components[i].getAccessor().invoke(converted);
            String name = converted.getClass().getSimpleName() + "." + components[i].getName();
            if (value instanceof String text) {
                assertEquals(field.getName(), text, name);
            } else if (value instanceof Long number) {
                assertEquals(field.getNumber(), number, name);
            } else if (value instanceof Boolean flag) {
                assertTrue(flag, name);
            } else if (value instanceof Enum<?> constant) {
                assertNotEquals("UNKNOWN", constant.name(), name);
            } else if (value instanceof Optional<?> optional) {
                assertTrue(optional.isPresent(), name);
            } else if (value instanceof Collection<?> items) {
                assertEquals(1, items.size(), name);
            } else if (value instanceof Map<?, ?> map) {
                assertEquals(1, map.size(), name);
            } else if (value instanceof Instant time) {
                assertEquals(Instant.ofEpochSecond(1, 2), time, name);
            } else if (value instanceof Duration duration) {
                assertEquals(Duration.ofSeconds(1, 2), duration, name);
            } else {
                assertEquals("json", assertInstanceOf(RawJson.class, value).text(), name);
            }
        }
    }

    private static String camelCase(String snakeCase) {
        StringBuilder name = new StringBuilder();
        for (String word : snakeCase.split("_")) {
            name.append(name.isEmpty() ? word : word.substring(0, 1).toUpperCase(Locale.ROOT) + word.substring(1));
        }
        return name.toString();
    }
}
