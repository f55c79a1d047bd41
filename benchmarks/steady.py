"""One well-behaved caller: starts instances one after the other, and prints the latency of each call in milliseconds.

python benchmarks/steady.py HOST:PORT CALLS
"""

from __future__ import annotations

import asyncio
import json
import sys
import time

import grpc

from calls import Perdure

WARM_UP = 20


async def main(target: str, calls: int) -> None:
    took_ms: list[float] = []
    async with grpc.aio.insecure_channel(target) as channel:
        perdure = Perdure(channel)
        for number in range(WARM_UP + calls):
            began = time.perf_counter()
            await perdure.start("lifecycle")
            if number >= WARM_UP:
                took_ms.append((time.perf_counter() - began) * 1e3)
    print(json.dumps(took_ms))


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], int(sys.argv[2])))
