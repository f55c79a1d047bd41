"""The workflow behind ``perdure serve --demo``, and what to type once it is served.

It has one of everything that a first look should meet: code, a branch that time ends, one that an event ends, and a
step where both meet. Nothing here is used by anything else.
"""

from __future__ import annotations

from perdure import Context, Outcome, Workflow, sleep, step, wait_for
from perdure_server.cli.remote import SERVER_DEFAULT

INSTANCE_ID = "demo-1"


class Demo(Workflow, name="demo", version=1):
    start = "greet"

    @step(on={"greeted": ["pause", "reply"]})
    async def greet(self, ctx: Context) -> Outcome:
        return Outcome("greeted", text=f"Hello, {ctx.initial.get('name', 'stranger')}!")

    pause = sleep("10s", then="part")
    reply = wait_for("replied", timeout="10m", on={"replied": "part", "timeout": "part"})

    @step(on={"parted": "end"}, join="all")
    def part(self, ctx: Context) -> Outcome:
        said = ctx.steps["reply"].get("text", "nothing")
        return Outcome("parted", text=f"You said {said}. Goodbye!")


def hints(address: str) -> str:
    """Return two lines to type in other terminals, for a server at ``address``."""
    at = "" if address == SERVER_DEFAULT else f" --server {address}"
    return (
        f"perdure start demo --instance-id {INSTANCE_ID}{at} && perdure watch {INSTANCE_ID}{at}\n"
        f"""perdure resume {INSTANCE_ID} replied --payload '{{"text": "Good morning"}}'{at}"""
    )
