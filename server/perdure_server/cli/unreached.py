"""What a connection that did not come about tells: that nobody is there, or what is wrong with TLS.

What is told is what gRPC's texts say and no more: a connection that was closed may have met anything.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

_CLOSED: Final = ("Socket closed", "Connection reset", "End of TCP stream", "Broken pipe")
"""How gRPC tells that the other side ended a connection before it was one."""

_NO_MEND: Final = "start one with `perdure serve`, or name one with --server or PERDURE_SERVER"


def unreached(why: str, server: str, options: Sequence[str]) -> tuple[str, str]:
    """Return what is wrong and how to hint it, where no connection to ``server`` came about.

    ``why`` is what gRPC says, ``options`` are those of TLS that were given.
    """
    if "Connection refused" in why:
        return f"no perdure server answers at {server}", _NO_MEND
    if server.startswith("unix:"):
        if "No such file or directory" in why:
            return f"no perdure server answers at {server}: the socket does not exist", _NO_MEND
        if "Permission denied" in why:
            return (
                f"no permission to connect to {server}",
                "run the command as the server's user, or let its group connect (UMask=0007)",
            )
    if options and "WRONG_VERSION_NUMBER" in why:
        return f"the server at {server} speaks no TLS", f"leave out {_listed(options)}"
    if "CERTIFICATE_VERIFY_FAILED" in why:
        reason = why.rpartition("CERTIFICATE_VERIFY_FAILED: ")[2].removesuffix(": OK")
        hint = (
            "the server needs another certificate"
            if "expired" in reason or "not yet valid" in reason
            else "--tls-ca FILE names the authority that it is of"
        )
        return f"the certificate of the server at {server} is not trusted: {reason}", hint
    if "Hostname Verification Check failed" in why:
        host = server.rpartition(":")[0]
        return (
            f"the certificate of the server at {server} does not name {host}",
            "name the server with --server as its certificate does",
        )
    if any(text in why for text in _CLOSED):
        return f"the server at {server} closes the connection: {why}", _closed_mend(options)
    return f"no perdure server answers at {server}: {why}", _NO_MEND


def _closed_mend(options: Sequence[str]) -> str:
    if not options:
        return "it may want --tls or --tls-ca"
    if "--tls-cert" not in options:
        return "it may want a client certificate, --tls-cert and --tls-key"
    return "it may not trust the certificate of --tls-cert"


def _listed(options: Sequence[str]) -> str:
    return " and ".join([", ".join(options[:-1]), options[-1]]) if len(options) > 1 else options[0]
