import dev.perdure.Payloads;
import dev.perdure.PerdureClient;
import dev.perdure.Watch;
import dev.perdure.WatchEvent;
import dev.perdure.WatchOptions;
import dev.perdure.v1.HistoryEntry;
import dev.perdure.v1.Instance;
import dev.perdure.v1.InstanceState;
import java.time.Duration;
import java.util.List;
import java.util.Map;

/** An order from start to end, against a server that serves examples/order.py. */
public final class OrderSample {
    private OrderSample() {}

    public static void main(String[] args) {
        String target = args.length > 0 ? args[0] : PerdureClient.DEFAULT_TARGET;
        try (PerdureClient client = PerdureClient.connect(target)) {
            var order = Payloads.of(Map.of("items", List.of("lamp"), "total_cents", 4900));
            String id = client.startInstance("order", order).getInstanceId();
            System.out.println("started " + id);

            // The whole history, from revision 1 on, for at most a minute.
            WatchOptions options = WatchOptions.DEFAULT.withAfterRevision(0).withTimeout(Duration.ofMinutes(1));
            try (Watch watch = client.watchInstance(id, options)) {
                for (WatchEvent event : watch) {
                    if (event instanceof WatchEvent.Entry told) {
                        System.out.println(told.revision() + " " + told.entry().getFactCase());
                        answer(client, id, told.entry());
                    }
                }
            }

            Instance instance = client.getInstance(id);
            System.out.println(instance.getState() + " " + Payloads.value(instance.getOutputsOrThrow("ship")));
            if (instance.getState() != InstanceState.INSTANCE_STATE_COMPLETED) {
                throw new IllegalStateException("the order did not complete");
            }
        }
    }

    /** Plays everybody whom an order waits for: the warehouse, the approver, and time. */
    private static void answer(PerdureClient client, String id, HistoryEntry entry) {
        switch (entry.getFactCase()) {
            case STEP_SUSPENDED -> client.resume(id, "reserved", Payloads.of(Map.of("shelf", "B4")));
            case STEP_STARTED -> {
                if (entry.getStepStarted().getEventsList().contains("approved")) {
                    client.resume(id, "approved");
                }
            }
            case TIMER_ARMED -> {
                // Nobody waits half a minute in a sample.
                if (entry.getTimerArmed().getStepRef().equals("cooldown")) {
                    client.fireTimer(entry.getTimerArmed().getReference());
                }
            }
            default -> {} // nothing to do, or a fact that this version does not know
        }
    }
}
