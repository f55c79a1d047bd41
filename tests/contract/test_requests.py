"""Request ids: each takes effect once in its scope, and the first answer is kept."""

from __future__ import annotations

from dataclasses import replace

from perdure_server.store.protocol import COMMITTED, Conflict, ConflictKind, Store
from support.factories import a_change, a_request, a_state

USED = Conflict(ConflictKind.REQUEST)


async def test_a_request_is_found_with_its_first_answer(store: Store, other: Store) -> None:
    request = a_request(response='{"instance_id":"ü","revision":2}')
    await store.commit([a_change(a_state(), request=request)])
    assert await other.find_request(request.key) == request
    assert await store.find_request(a_request("request-2").key) is None


async def test_a_request_id_of_start_instance_is_global(store: Store, other: Store) -> None:
    assert list(await store.commit([a_change(a_state(), request=a_request())])) == [COMMITTED]
    assert list(await other.commit([a_change(a_state(), request=a_request())])) == [USED]


async def test_other_request_ids_belong_to_an_instance_and_an_rpc(store: Store) -> None:
    first, second = a_state(), a_state()
    await store.commit([a_change(first), a_change(second)])

    async def resume(state_revision: int, rpc: str, of: int) -> object:
        state = replace((first, second)[of], revision=state_revision)
        request = a_request("same", rpc=rpc, id=state.instance_id)
        return (await store.commit([a_change(state, request=request)]))[0]

    assert await resume(2, "Resume", 0) == COMMITTED
    assert await resume(2, "Resume", 1) == COMMITTED
    assert await resume(3, "CancelInstance", 0) == COMMITTED
    assert await resume(4, "Resume", 0) == USED


async def test_of_two_uses_in_one_batch_the_first_counts(store: Store) -> None:
    first, second, bystander = a_state(), a_state(), a_state()
    outcomes = await store.commit(
        [
            a_change(first, request=a_request(response='"first"')),
            a_change(second, request=a_request(response='"second"')),
            a_change(bystander),
        ]
    )
    assert list(outcomes) == [COMMITTED, USED, COMMITTED]
    found = await store.find_request(a_request().key)
    assert found is not None
    assert found.response == '"first"'
    assert await store.load(second.instance_id) is None
