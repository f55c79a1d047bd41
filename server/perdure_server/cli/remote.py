"""Commands that talk to a server: the options that they all have, their connection, and how their errors end.

A command is a function whose first parameter is a `Session`; `remote` puts the shared options in that place.
"""

from __future__ import annotations

import functools
import inspect
import typing
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from perdure_server.cli.exits import EXIT_HELP, Exit, fail, fail_with
from perdure_server.cli.values import seconds_of

if TYPE_CHECKING:
    from perdure import Client

SENDINGS_MAX: Final = 5
"""How often a command sends its call: a server that is not there is reported within two seconds."""

SERVER_DEFAULT: Final = "127.0.0.1:7420"


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

    @cached_property
    def client(self) -> Client:
        """The connection. Each call is sent a few times at most."""
        return self.connect(sendings_max=SENDINGS_MAX)

    def connect(self, *, sendings_max: int = 0, timeout_seconds: float | None = None) -> Client:
        """Open a connection of its own; ``sendings_max`` 0 leaves only time as the bound."""
        from perdure.client import Client, Retries, TlsOptions
        from perdure.client._channel import check_target

        try:
            check_target(self.server)
        except ValueError as error:
            fail(str(error), mend="--server or PERDURE_SERVER")
        tls = None
        if self.tls or self.tls_ca or self.tls_cert or self.tls_key:
            try:
                tls = TlsOptions(ca=self.tls_ca, cert=self.tls_cert, key=self.tls_key)
                tls.credentials()
            except (OSError, ValueError) as error:
                fail(f"no TLS: {error}")
        return Client(
            self.server,
            tls=tls,
            timeout=self.timeout_seconds if timeout_seconds is None else timeout_seconds,
            metadata=self.headers,
            retries=Retries(attempts_max=sendings_max),
        )


_Server = Annotated[
    str, typer.Option("--server", envvar="PERDURE_SERVER", help="Where the server is, HOST:PORT.")
]
_Json = Annotated[bool, typer.Option("--json", help="Print JSON, one document per line.")]
_Timeout = Annotated[str, typer.Option("--timeout", help="How long an answer may take.")]
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
    "server": (_Server, SERVER_DEFAULT),
    "as_json": (_Json, False),
    "timeout": (_Timeout, "30s"),
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
    app: typer.Typer, name: str, *examples: str
) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Register a function ``(session, ...)`` as a command, with the options that every command has."""

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
            inspect.Parameter(key, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=annotation)
            for key, (annotation, default) in _SHARED.items()
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
        timeout_seconds=seconds_of(timeout, "--timeout"),
        tls=tls,
        tls_ca=tls_ca,
        tls_cert=tls_cert,
        tls_key=tls_key,
        headers=tuple(headers),
    )


def _guarded(session: Session, run: Callable[[], None]) -> None:
    from perdure.errors import PerdureError

    try:
        run()
    except PerdureError as error:
        fail_with(error, server=session.server)
    except BrokenPipeError:
        raise typer.Exit(Exit.OK) from None
    except KeyboardInterrupt:
        raise typer.Exit(Exit.INTERRUPTED) from None


__all__ = ["EXIT_HELP", "Session", "epilog", "remote"]
