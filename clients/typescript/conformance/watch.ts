/** A watch that the driver keeps open between requests, and the conversion of its events. */

import type { Client, HistoryEntry, WatchEvent } from "perdure";

type Step = { readonly event: WatchEvent } | { readonly ended: true } | { readonly error: unknown };

/** Returns the name of a fact as the scenarios spell it, empty if the client does not know the fact. */
export function kindOf(kind: HistoryEntry["kind"]): string {
  return kind === "unknown" ? "" : kind;
}

export class Watch {
  private readonly stop = new AbortController();
  private readonly events: AsyncGenerator<WatchEvent, void, undefined>;
  private readonly expectsSnapshot: boolean;
  private pending: Promise<Step>;
  private last: object = { event: "end" };

  constructor(client: Client, instanceId: string, afterRevision: number | undefined) {
    this.expectsSnapshot = afterRevision === undefined;
    this.events = client.watchInstance(instanceId, { afterRevision, signal: this.stop.signal });
    this.pending = this.step();
  }

  /** Resolves once the server has sent the snapshot, if there is one. Later changes arrive as entries. */
  async opened(): Promise<void> {
    if (this.expectsSnapshot) await this.pending;
  }

  async next(timeoutMs: number): Promise<object> {
    let timer: NodeJS.Timeout | undefined;
    const timeout = new Promise<undefined>((resolve) => {
      timer = setTimeout(() => resolve(undefined), timeoutMs);
    });
    const step = await Promise.race([this.pending, timeout]);
    clearTimeout(timer);
    if (step === undefined) return { event: "timeout" };
    // The end and an error are returned again by every later call.
    if ("error" in step) throw step.error;
    if ("ended" in step) return this.last;
    this.pending = this.step();
    const { type, revision } = step.event;
    const kind = step.event.type === "entry" ? { kind: kindOf(step.event.entry.kind) } : {};
    return (this.last = { event: type, revision, ...kind });
  }

  async close(): Promise<void> {
    this.stop.abort();
    await this.pending;
  }

  private async step(): Promise<Step> {
    try {
      const { done, value } = await this.events.next();
      return done ? { ended: true } : { event: value };
    } catch (error) {
      return { error };
    }
  }
}
