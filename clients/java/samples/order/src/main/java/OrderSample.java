import dev.perdure.Fact;
import dev.perdure.HistoryEntry;
import dev.perdure.Instance;
import dev.perdure.InstanceState;
import dev.perdure.PerdureClient;
import dev.perdure.Watch;
import dev.perdure.WatchEvent;
import dev.perdure.WatchOptions;
import java.time.Duration;
import java.util.List;
import java.util.Map;

/** Runs an order from start to end, on a server that serves examples/order.py. */
public final class OrderSample {
    private OrderSample() {}

    public static void main(String[] args) {
        String target = args.length > 0 ? args[0] : PerdureClient.DEFAULT_TARGET;
        try (PerdureClient client = PerdureClient.connect(target)) {
            Map<String, Object> order = Map.of("items", List.of("lamp"), "total_cents", 4900);
            String id = client.startInstance("order", order).instanceId();
            System.out.println("started " + id);

            // The whole history, from revision 1 on, for at most a minute.
            WatchOptions options = WatchOptions.DEFAULT.withAfterRevision(0).withTimeout(Duration.ofMinutes(1));
            try (Watch watch = client.watchInstance(id, options)) {
                for (WatchEvent event : watch) {
                    if (event instanceof WatchEvent.Entry entry) {
                        System.out.println(entry.revision() + " " + entry.entry().kind());
                        respond(client, id, entry.entry());
                    }
                }
            }

            Instance instance = client.getInstance(id);
            System.out.println(instance.state() + " " + instance.outputs().get("ship").value());
            if (instance.state() != InstanceState.COMPLETED) {
                throw new IllegalStateException("order " + id + " did not complete");
            }
        }
    }

    /** Plays the warehouse, the approver and time, which the order waits for. */
    private static void respond(PerdureClient client, String id, HistoryEntry entry) {
        if (entry.fact() instanceof Fact.StepSuspended) {
            client.resume(id, "reserved", Map.of("shelf", "B4"));
        } else if (entry.fact() instanceof Fact.StepStarted started && started.events().contains("approved")) {
            client.resume(id, "approved");
        } else if (entry.fact() instanceof Fact.TimerArmed armed && armed.stepRef().equals("cooldown")) {
            client.fireTimer(armed.reference()); // instead of waiting for half a minute
        }
    }
}
