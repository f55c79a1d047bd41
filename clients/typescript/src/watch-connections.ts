/**
 * Connections for watches. Chooses the connection of each stream. No I/O.
 *
 * A server accepts a limited number of streams per connection (256 by default). A connection that is full of watches
 * makes every further call wait until a watch ends, so watches never share a connection with other calls.
 */

/** Maximum number of watches on one connection. Proxies and servers commonly accept 100 to 128 streams. */
export const WATCHES_PER_CONNECTION = 100;

/** Maximum number of open channels without a watch, kept for the next one. gRPC disconnects them after `IDLE_MS`. */
export const IDLE_CONNECTIONS_MAX = 1;

/** Time after which an unused watch connection disconnects. */
export const IDLE_MS = 30_000;

export interface WatchConnection<C> {
  readonly channel: C;
  watches: number;
}

/** The watch connections of one client. */
export class WatchConnections<C extends { close(): void }> {
  private open: WatchConnection<C>[] = [];

  constructor(private readonly connect: () => C) {}

  /** Returns a connection with room for another watch. Opens one if all are full. Pass it to `release`. */
  acquire(): WatchConnection<C> {
    // The first connection with room is used, so that the later ones become empty and can be closed.
    let found = this.open.find(({ watches }) => watches < WATCHES_PER_CONNECTION);
    if (found === undefined) {
      found = { channel: this.connect(), watches: 0 };
      this.open.push(found);
    }
    found.watches++;
    return found;
  }

  /** Releases the place of a watch. Closes the connection if too many connections are unused. */
  release(connection: WatchConnection<C>): void {
    connection.watches--;
    if (connection.watches > 0 || !this.open.includes(connection)) return;
    if (this.open.filter(({ watches }) => watches === 0).length <= IDLE_CONNECTIONS_MAX) return;
    this.open = this.open.filter((other) => other !== connection);
    connection.channel.close();
  }

  close(): void {
    for (const { channel } of this.open) channel.close();
    this.open = [];
  }

  /** Number of watches on each open connection. */
  get watches(): readonly number[] {
    return this.open.map(({ watches }) => watches);
  }
}
