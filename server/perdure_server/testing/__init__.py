"""The test kit: run a workflow in a test, on the real engine and store, in virtual time. See docs/workflows/test.md.

::

    async with WorkflowTest(OrderFlow) as t:
        t.script("charge", StepError("the bank is away"), Outcome("charged", payment_id="p-1"))
        order = await t.start({"items": ["lamp"]})
        await order.resume("reserved")
        await t.advance("24h")
        order.assert_state("COMPLETED")
        order.assert_attempts("charge", 2)
"""

from __future__ import annotations

from perdure_server.embedded import InProcessClient
from perdure_server.testing.instance import History, InstanceHandle
from perdure_server.testing.script import REAL, AttemptTimeout, Call, FailAfter, Turn
from perdure_server.testing.workflow_test import SettleTimeout, WorkflowTest

__all__ = [
    "REAL",
    "AttemptTimeout",
    "Call",
    "FailAfter",
    "History",
    "InProcessClient",
    "InstanceHandle",
    "SettleTimeout",
    "Turn",
    "WorkflowTest",
]
