"""A well-behaved client in a process of its own: one call at a time, without retries, each with a deadline.

Starts, reads and resumes instances of `approval`, and prints one JSON document: the number of served calls, and
the errors of the others.
"""

from __future__ import annotations

import asyncio
import json
import sys
from collections import Counter

from perdure import AsyncClient
from perdure.client import Retries
from perdure.errors import PerdureError

DEADLINE_SECONDS = 30.0


async def run(target: str, rounds: int) -> None:
    served = 0
    errors: Counter[str] = Counter()
    async with AsyncClient(target, timeout=DEADLINE_SECONDS, retries=Retries(attempts_max=1)) as client:
        for number in range(rounds):
            instance_id = f"steady-{number}"
            for call in (
                client.start_instance("approval", instance_id=instance_id),
                client.get_instance(instance_id),
                client.resume(instance_id, "approved"),
            ):
                try:
                    await call
                    served += 1
                except PerdureError as error:
                    errors[f"{error.status} {error.reason}"] += 1
    print(json.dumps({"served": served, "errors": errors}), flush=True)


if __name__ == "__main__":
    asyncio.run(run(sys.argv[1], int(sys.argv[2])))
