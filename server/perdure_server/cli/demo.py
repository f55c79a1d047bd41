"""Workflow of ``perdure serve --demo``, and the commands to try with it.

The workflow shows each kind of step: code, a branch that ends after a time, a branch that ends with an event, and a
step that joins both. No other module uses it.
"""

from __future__ import annotations

import contextlib
import ipaddress
import shlex
import ssl
from pathlib import Path
from typing import Any

from perdure import Context, Outcome, Workflow, sleep, step, wait_for
from perdure.model.constants import DEFAULT_TARGET

INSTANCE_ID = "demo-1"


class Demo(Workflow, name="demo", version=1):
    start = "greet"

    @step(on={"greeted": ["pause", "reply"]})
    async def greet(self, ctx: Context) -> Outcome:
        return Outcome("greeted", text=f"Hello, {ctx.input.get('name', 'stranger')}!")

    pause = sleep("10s", then="part")
    reply = wait_for("replied", timeout="10m", on={"replied": "part", "timeout": "part"})

    @step(on={"parted": "end"}, join="all")
    def part(self, ctx: Context) -> Outcome:
        said = ctx.steps["reply"].get("text", "nothing")
        return Outcome("parted", text=f"You said {said}. Goodbye!")


def hints(
    address: str, *, tls_cert: Path | None = None, tls_key: Path | None = None, client_cert: bool = False
) -> str:
    """Return two commands for other terminals, for a server at ``address`` that uses the TLS files, if any.

    With ``client_cert``, the commands have placeholders for a client certificate.
    """
    at = "" if address == DEFAULT_TARGET else f" --server {address}"
    if tls_cert is not None and tls_key is not None:
        host, _, port = address.rpartition(":")
        at = f" --server {_server_name(host, tls_cert, tls_key)}:{port} --tls-ca {shlex.quote(str(tls_cert))}"
    if client_cert:
        at += " --tls-cert YOUR.pem --tls-key YOUR.key"
    return (
        f"perdure start demo --instance-id {INSTANCE_ID}{at} && perdure watch {INSTANCE_ID}{at}\n"
        f"""perdure resume {INSTANCE_ID} replied --payload '{{"text": "Good morning"}}'{at}"""
    )


def _server_name(host: str, cert: Path, key: Path) -> str:
    """Return the host for ``--server``: ``host`` if the certificate names it, otherwise a name in the certificate."""
    names = _names(cert, key)
    bare = host.strip("[]")
    if bare in names:
        return host
    near = [name for name in ("localhost", "127.0.0.1") if name in names]
    found = next(iter([*near, *(name for name in names if "*" not in name)]), bare)
    return f"[{found}]" if ":" in found else found


def _names(cert: Path, key: Path) -> list[str]:
    """Return the names in a certificate. An in-memory client reads them in a handshake with an in-memory server."""
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(cert, key)
    client = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    client.check_hostname = False
    client.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
    client.load_verify_locations(cert)
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    asking = client.wrap_bio(to_client, to_server)
    answering = server.wrap_bio(to_server, to_client, server_side=True)
    try:
        for side in (asking, answering, asking):
            with contextlib.suppress(ssl.SSLWantReadError):
                side.do_handshake()
        found = asking.getpeercert() or {}
    except (ssl.SSLError, ValueError):
        return []  # for example expired; clients report it
    alternatives: Any = found.get("subjectAltName", ())
    names = [str(ipaddress.ip_address(n)) if kind == "IP Address" else n for kind, n in alternatives]
    return [
        name for (kind, _), name in zip(alternatives, names, strict=True) if kind in ("DNS", "IP Address")
    ]
