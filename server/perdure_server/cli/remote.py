"""Commands that talk to a server: the options that they all have, their connection, and how their errors end.

A command is a function whose first parameter is a `Session`; `remote` puts the shared options in that place.
"""

from __future__ import annotations

import functools
import inspect
import os
import typing
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from perdure.model.constants import DEFAULT_TARGET
from perdure_server.cli.errors import EXIT_HELP, Exit, fail, fail_with
from perdure_server.cli.param_types import timeout_of

if TYPE_CHECKING:
    from perdure import Client
    from perdure.client import TlsOptions

SENDINGS_MAX: Final = 5
"""How often a command sends its call: a server that is not there is reported within two seconds."""

TIMEOUT_DEFAULT: Final = "30s"


@dataclass(frozen=True)
class Session:
    """One run of a command: how it reaches the server and how it prints."""

    server: str
    as_json: bool
    timeout_seconds: float
    tls: bool
    tls_ca: Path | None
    tls_cert: Path | None
    tls_key: Path | None
    headers: tuple[tuple[str, str], ...]

    @property
    def tls_options(self) -> list[str]:
        """The options that ask for TLS, as given; none for plain text."""
        given = {
            "--tls": self.tls,
            "--tls-ca": self.tls_ca,
            "--tls-cert": self.tls_cert,
            "--tls-key": self.tls_key,
        }
        return [option for option, value in given.items() if value]

    @cached_property
    def client(self) -> Client:
        """The connection. Each call is sent a few times at most."""
        return self.connect(sendings_max=SENDINGS_MAX)

    def connect(self, *, sendings_max: int | None = None, timeout_seconds: float | None = None) -> Client:
        """Open a connection of its own; ``sendings_max`` 0 leaves only time as the bound."""
        # gRPC logs each failed handshake on stderr; the command tells it in a line.
        os.environ.setdefault("GRPC_VERBOSITY", "NONE")
        from perdure.client import CallRetryPolicy, Client
        from perdure.client._channel import check_target

        try:
            check_target(self.server)
        except ValueError as error:
            fail(str(error), hint="--server or PERDURE_SERVER")
        return Client(
            self.server,
            tls=_tls(ca=self.tls_ca, cert=self.tls_cert, key=self.tls_key) if self.tls_options else None,
            timeout=self.timeout_seconds if timeout_seconds is None else timeout_seconds,
            metadata=self.headers,
            retries=CallRetryPolicy(max_attempts=sendings_max),
        )


_Server = Annotated[
    str,
    typer.Option("--server", envvar="PERDURE_SERVER", help="Address of the server: HOST:PORT or unix:PATH."),
]
_Json = Annotated[bool, typer.Option("--json", help="Print JSON, one document per line.")]
_Timeout = Annotated[
    str, typer.Option("--timeout", help="How long one call may take, with what it is sent again.")
]
_Tls = Annotated[
    bool, typer.Option("--tls", envvar="PERDURE_TLS", help="Speak TLS; trust the system's authorities.")
]
_TlsCa = Annotated[
    Path | None, typer.Option("--tls-ca", envvar="PERDURE_TLS_CA", help="Speak TLS; trust this PEM file.")
]
_TlsCert = Annotated[
    Path | None,
    typer.Option("--tls-cert", envvar="PERDURE_CLIENT_CERT", help="The client's certificate (PEM)."),
]
_TlsKey = Annotated[
    Path | None, typer.Option("--tls-key", envvar="PERDURE_CLIENT_KEY", help="The client's key (PEM).")
]
_Header = Annotated[
    list[str] | None, typer.Option("--header", help="Send this metadata too, KEY=VALUE; may be repeated.")
]

# The defaults stand with the parameters: typer reads both.
_SHARED: Final[dict[str, tuple[Any, Any]]] = {
    "server": (_Server, DEFAULT_TARGET),
    "as_json": (_Json, False),
    "timeout": (_Timeout, TIMEOUT_DEFAULT),
    "tls": (_Tls, False),
    "tls_ca": (_TlsCa, None),
    "tls_cert": (_TlsCert, None),
    "tls_key": (_TlsKey, None),
    "header": (_Header, None),
}


def epilog(*examples: str) -> str:
    """Return the end of a command's help: its examples, line by line."""
    lines = "\n".join(f"  {example}" for example in examples)
    return f"\b\nExamples:\n{lines}" if len(examples) > 1 else f"\b\nExample:\n{lines}"


def remote(
    app: typer.Typer, name: str, *examples: str, timeout: str = TIMEOUT_DEFAULT
) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Register a function ``(session, ...)`` as a command, with the options that every command has.

    ``timeout`` is the default of ``--timeout``.
    """
    shared_defaults = {key: default for key, (_, default) in _SHARED.items()} | {"timeout": timeout}

    def decorate(function: Callable[..., None]) -> Callable[..., None]:
        @functools.wraps(function)
        def command(**arguments: Any) -> None:
            shared = {key: arguments.pop(key) for key in _SHARED}
            session = _session(**shared)
            _guarded(session, lambda: function(session, **arguments))

        hints = typing.get_type_hints(function, include_extras=True)
        own = [
            parameter.replace(annotation=hints[parameter.name])
            for parameter in list(inspect.signature(function).parameters.values())[1:]
        ]
        shared_parameters = [
            inspect.Parameter(
                key, inspect.Parameter.KEYWORD_ONLY, default=shared_defaults[key], annotation=annotation
            )
            for key, (annotation, _) in _SHARED.items()
        ]
        parameters = [
            *(p.replace(kind=inspect.Parameter.KEYWORD_ONLY) for p in own),
            *shared_parameters,
        ]
        command.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
        command.__annotations__ = {p.name: p.annotation for p in parameters}
        del command.__wrapped__
        app.command(name, epilog=epilog(*examples))(command)
        return function

    return decorate


def _session(
    *,
    server: str,
    as_json: bool,
    timeout: str,
    tls: bool,
    tls_ca: Path | None,
    tls_cert: Path | None,
    tls_key: Path | None,
    header: list[str] | None,
) -> Session:
    headers = []
    for pair in header or ():
        key, equals, value = pair.partition("=")
        if not equals:
            raise typer.BadParameter(f"{pair!r} is no KEY=VALUE", param_hint="--header")
        headers.append((key, value))
    return Session(
        server=server,
        as_json=as_json,
        timeout_seconds=timeout_of(timeout, "--timeout"),
        tls=tls,
        tls_ca=tls_ca,
        tls_cert=tls_cert,
        tls_key=tls_key,
        headers=tuple(headers),
    )


def _tls(*, ca: Path | None, cert: Path | None, key: Path | None) -> TlsOptions:
    """Return how to speak TLS. Ends the command for files that are not what their options say."""
    from perdure.client import TlsOptions
    from perdure_server.security import pem

    if (cert is None) != (key is None):
        fail("--tls-cert and --tls-key go together; one of them is missing")
    try:
        authorities = pem.read_authorities("--tls-ca", ca) if ca else None
        chain, secret = pem.read_pair(cert, key) if cert and key else (None, None)
    except pem.InvalidPemError as error:
        fail(str(error))
    return TlsOptions(ca=authorities, cert=chain, key=secret)


def _guarded(session: Session, run: Callable[[], None]) -> None:
    from perdure.errors import PerdureError
    from perdure_server.cli.streams import interrupts_raise

    try:
        with interrupts_raise():
            run()
    except PerdureError as error:
        fail_with(error, server=session.server, tls_options=session.tls_options)
    except BrokenPipeError:
        raise typer.Exit(Exit.OK) from None
    except KeyboardInterrupt:
        raise typer.Exit(Exit.INTERRUPTED) from None


__all__ = ["EXIT_HELP", "Session", "epilog", "remote"]
