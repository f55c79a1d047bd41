"""Replicas: leases by the store's clock, and the fence behind them."""

from __future__ import annotations

from perdure_server.store.protocol import COMMITTED, Conflict, ConflictKind, ReplicaGuard, Store
from support.factories import a_change, a_state
from support.stores import Clock


async def may_commit(store: Store, replica_id: str) -> bool:
    (outcome,) = await store.commit([a_change(a_state(), guards=(ReplicaGuard(replica_id),))])
    assert outcome in (COMMITTED, Conflict(ConflictKind.GUARD))
    return outcome == COMMITTED


async def test_a_heartbeat_prolongs_the_lease(store: Store, clock: Clock) -> None:
    await store.register_replica("replica-a", lease_ms=1_000)
    for _ in range(5):
        clock.advance(999)
        assert await store.heartbeat("replica-a", lease_ms=1_000)
    assert await may_commit(store, "replica-a")


async def test_a_heartbeat_that_comes_too_late_is_reported_so(store: Store, clock: Clock) -> None:
    await store.register_replica("replica-a", lease_ms=1_000)
    clock.advance(1_000)
    assert not await store.heartbeat("replica-a", lease_ms=1_000)
    assert not await may_commit(store, "replica-a")


async def test_a_lease_that_ended_is_not_revived_by_a_later_heartbeat(store: Store, clock: Clock) -> None:
    await store.register_replica("replica-a", lease_ms=1_000)
    clock.advance(5_000)
    assert not await store.heartbeat("replica-a", lease_ms=60_000)
    assert not await store.heartbeat("replica-a", lease_ms=60_000)


async def test_a_replica_that_never_registered_has_no_lease(store: Store) -> None:
    assert not await store.heartbeat("a-stranger", lease_ms=1_000)
    assert not await may_commit(store, "a-stranger")


async def test_a_replica_may_give_up_its_lease(store: Store, other: Store) -> None:
    await store.register_replica("replica-a", lease_ms=1_000)
    await store.end_replica("replica-a")
    await store.end_replica("replica-a")
    assert not await store.heartbeat("replica-a", lease_ms=1_000)
    assert not await may_commit(other, "replica-a")


async def test_the_leases_of_two_replicas_are_their_own(store: Store, other: Store, clock: Clock) -> None:
    await store.register_replica("replica-a", lease_ms=1_000)
    await other.register_replica("replica-b", lease_ms=2_000)
    clock.advance(1_000)
    assert not await may_commit(store, "replica-a")
    assert await may_commit(other, "replica-b")


async def test_the_clock_that_counts_is_the_stores(store: Store, clock: Clock) -> None:
    assert store.now_ms() == clock.now
    clock.advance(17)
    assert store.now_ms() == clock.now
