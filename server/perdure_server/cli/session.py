"""Commands that call a server: shared options, connection, and error handling."""

from __future__ import annotations

import functools
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeVar

import click

from perdure.model.constants import DEFAULT_TARGET
from perdure_server.cli.errors import Exit, fail, fail_with
from perdure_server.cli.param_types import PATH, TIMEOUT, KeyValue, epilog

if TYPE_CHECKING:
    from perdure import Client
    from perdure.client import TlsOptions

SENDINGS_MAX: Final = 5
"""Maximum number of times that a command sends its call. With 5, a missing server is reported within two seconds."""

TIMEOUT_DEFAULT: Final = "30s"


@dataclass(frozen=True)
class Session:
    """One run of a command: the server that it calls and the format that it prints. ``timeout`` is in seconds."""

    server: str
    as_json: bool
    timeout: float
    tls: bool
    tls_ca: Path | None
    tls_cert: Path | None
    tls_key: Path | None
    header: tuple[tuple[str, str], ...]

    @property
    def tls_options(self) -> list[str]:
        """Names of the TLS options that were given. Empty for plain text."""
        given = {
            "--tls": self.tls,
            "--tls-ca": self.tls_ca,
            "--tls-cert": self.tls_cert,
            "--tls-key": self.tls_key,
        }
        return [option for option, value in given.items() if value]

    @cached_property
    def client(self) -> Client:
        """Connection that sends each call at most `SENDINGS_MAX` times."""
        return self.connect(sendings_max=SENDINGS_MAX)

    def connect(self, *, sendings_max: int | None = None, timeout_seconds: float | None = None) -> Client:
        """Open a separate connection. Without ``sendings_max``, only the timeout limits the number of retries."""
        # gRPC logs each failed handshake on stderr. The command reports it in its error.
        os.environ.setdefault("GRPC_VERBOSITY", "NONE")
        from perdure.client import CallRetryPolicy, Client
        from perdure.client._channel import check_target

        try:
            check_target(self.server)
        except ValueError as error:
            fail(str(error), hint="set --server or PERDURE_SERVER to HOST:PORT or unix:PATH")
        return Client(
            self.server,
            tls=_tls(ca=self.tls_ca, cert=self.tls_cert, key=self.tls_key) if self.tls_options else None,
            timeout=self.timeout if timeout_seconds is None else timeout_seconds,
            metadata=self.header,
            retries=CallRetryPolicy(max_attempts=sendings_max),
        )

    @contextmanager
    def guarded(self) -> Iterator[None]:
        """End the command with the error of a call. Raises `CommandError` and ``click.exceptions.Exit``."""
        from perdure.errors import PerdureError
        from perdure_server.cli.streams import interrupts_raise

        try:
            with interrupts_raise():
                yield
        except PerdureError as error:
            fail_with(error, server=self.server, tls_options=self.tls_options)
        except BrokenPipeError:
            raise click.exceptions.Exit(Exit.OK) from None
        except KeyboardInterrupt:
            raise click.exceptions.Exit(Exit.INTERRUPTED) from None


F = TypeVar("F", bound=Callable[..., Any])

as_json_option: Final = click.option(
    "--json", "as_json", is_flag=True, help="Print JSON, one document per line."
)
request_id_option: Final = click.option(
    "--request-id", metavar="ID", help="Request ID. Repeating a call with the same ID is safe."
)
limit_option: Final = functools.partial(
    click.option,
    "--limit",
    type=click.IntRange(min=0),
    help="Maximum number of results (0 = all).",
)


def _shared_options(timeout: str) -> Callable[[F], F]:
    options = (
        click.option(
            "--server",
            envvar="PERDURE_SERVER",
            show_envvar=True,
            metavar="ADDRESS",
            default=DEFAULT_TARGET,
            help="Address of the server: HOST:PORT or unix:PATH.",
        ),
        as_json_option,
        click.option(
            "--timeout", type=TIMEOUT, default=timeout, help="Limit of a single call, including retries."
        ),
        click.option(
            "--tls",
            is_flag=True,
            envvar="PERDURE_TLS",
            show_envvar=True,
            help="Use TLS and trust the system's certificate authorities.",
        ),
        click.option(
            "--tls-ca",
            type=PATH,
            envvar="PERDURE_TLS_CA",
            show_envvar=True,
            help="Use TLS and trust the authorities in this PEM file.",
        ),
        click.option(
            "--tls-cert",
            type=PATH,
            envvar="PERDURE_CLIENT_CERT",
            show_envvar=True,
            help="Client certificate (PEM file).",
        ),
        click.option(
            "--tls-key",
            type=PATH,
            envvar="PERDURE_CLIENT_KEY",
            show_envvar=True,
            help="Private key of the client certificate (PEM file).",
        ),
        click.option(
            "--header", type=KeyValue("header"), multiple=True, help="Metadata to send (repeatable)."
        ),
    )

    def decorate(function: F) -> F:
        for option in reversed(options):
            function = option(function)
        return function

    return decorate


def remote(
    name: str, *examples: str, timeout: str = TIMEOUT_DEFAULT
) -> Callable[[Callable[..., None]], click.Command]:
    """Return a decorator that makes a function ``(session, ...)`` a command. The shared options become its `Session`.

    ``timeout`` is the default of ``--timeout``.
    """

    def decorate(function: Callable[..., None]) -> click.Command:
        @functools.wraps(function)
        def run(
            *,
            server: str,
            as_json: bool,
            timeout: float,
            tls: bool,
            tls_ca: Path | None,
            tls_cert: Path | None,
            tls_key: Path | None,
            header: tuple[tuple[str, str], ...],
            **arguments: Any,
        ) -> None:
            session = Session(server, as_json, timeout, tls, tls_ca, tls_cert, tls_key, header)
            with session.guarded():
                function(session, **arguments)

        # The shared options follow the command's own in its help.
        own = getattr(run, "__click_params__", [])
        run.__click_params__ = []  # type: ignore[attr-defined]
        shared = _shared_options(timeout)(run)
        shared.__click_params__ += own  # type: ignore[attr-defined]
        return click.command(name, epilog=epilog(*examples))(shared)

    return decorate


def _tls(*, ca: Path | None, cert: Path | None, key: Path | None) -> TlsOptions:
    """Return the TLS settings of the files. Ends the command if a file is invalid for its option."""
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
