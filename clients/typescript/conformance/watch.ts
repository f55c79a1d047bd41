/** A watch that the driver holds open between two requests, and how it tells what it sees. */

import type { Client, HistoryEntry, WatchEvent } from "perdure";

type Step = { readonly event: WatchEvent } | { readonly ended: true } | { readonly error: unknown };

/** The name of a fact as the table has it, empty for one that the client does not know. */
export function kindOf(kind: HistoryEntry["kind"]): string {
  return kind === "unknown" ? "" : kind;
}

export class Watch {
  private readonly stop = new AbortController();
  private readonly events: AsyncGenerator<WatchEvent, void, undefined>;
  private readonly snapshotComes: boolean;
  private pending: Promise<Step>;
  private last: object = { event: "end" };

  constructor(client: Client, instanceId: string, afterRevision: number | undefined) {
    this.snapshotComes = afterRevision === undefined;
    this.events = client.watchInstance(instanceId, { afterRevision, signal: this.stop.signal });
    this.pending = this.step();
  }

  /** Resolves once the server has the watch, where that shows: what happens afterwards comes as entries. */
  async opened(): Promise<void> {
    if (this.snapshotComes) await this.pending;
  }

  async next(timeoutMs: number): Promise<object> {
    let timer: NodeJS.Timeout | undefined;
    const timeout = new Promise<undefined>((resolve) => {
      timer = setTimeout(() => resolve(undefined), timeoutMs);
    });
    const step = await Promise.race([this.pending, timeout]);
    clearTimeout(timer);
    if (step === undefined) return { event: "timeout" };
    // The end and an error stay what they are, however often they are asked for.
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
