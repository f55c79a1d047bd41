"""``perdure serve``: from the command line to a `Config`, and the server's errors at start as one line."""

from __future__ import annotations

import functools
import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final, NoReturn

import typer

from perdure.model.constants import DEFAULT_TARGET
from perdure_server.cli.errors import CommandError, Exit, fail
from perdure_server.cli.param_types import seconds_of
from perdure_server.cli.remote import epilog
from perdure_server.config import (
    ASYNC_STEPS_MAX,
    DATABASE_DEFAULT,
    DATABASE_MEMORY,
    SHUTDOWN_TIMEOUT_SECONDS,
    SYNC_STEPS_MAX,
    Config,
)

if TYPE_CHECKING:
    from perdure import Workflow
    from perdure_server.cli.apps import AppError
    from perdure_server.process.host import Host


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command(
        "serve",
        epilog=epilog(
            "perdure serve --demo",
            "perdure serve examples/order.py",
            "perdure serve shop.workflows --database sqlite:////var/lib/perdure/shop.db --listen 127.0.0.1:7420",
            "perdure serve order.py --listen 0.0.0.0:7420 --tls-cert server.pem --tls-key server.key",
        )
        + "\n\nStop it with SIGTERM or Ctrl-C; a second one stops it at once.",
    )(serve)


def serve(
    apps: Annotated[
        list[str] | None,
        typer.Argument(metavar="APP", help="A .py file or a module with Workflow classes."),
    ] = None,
    demo: Annotated[
        bool, typer.Option("--demo", help="Serve a small workflow of perdure's own, in memory, to try it.")
    ] = False,
    database: Annotated[
        str | None,
        typer.Option(
            envvar="PERDURE_DATABASE",
            show_default=DATABASE_DEFAULT,
            help="sqlite:///FILE (relative), sqlite:////FILE (absolute) or :memory:.",
        ),
    ] = None,
    listen: Annotated[
        str,
        typer.Option(
            envvar="PERDURE_LISTEN",
            metavar="HOST:PORT|unix:PATH",
            help="Address to listen on; port 0: a free one.",
        ),
    ] = DEFAULT_TARGET,
    tls_cert: Annotated[
        Path | None, typer.Option(envvar="PERDURE_TLS_CERT", help="The server's certificate chain (PEM).")
    ] = None,
    tls_key: Annotated[
        Path | None, typer.Option(envvar="PERDURE_TLS_KEY", help="The certificate's key (PEM).")
    ] = None,
    tls_client_ca: Annotated[
        Path | None,
        typer.Option(
            envvar="PERDURE_TLS_CLIENT_CA", help="Let in only clients with certificates of this CA (PEM)."
        ),
    ] = None,
    insecure: Annotated[
        bool,
        typer.Option("--insecure", envvar="PERDURE_INSECURE", help="Listen outside loopback without TLS."),
    ] = False,
    reflection: Annotated[
        bool, typer.Option("--reflection", envvar="PERDURE_REFLECTION", help="Offer gRPC server reflection.")
    ] = False,
    metrics_listen: Annotated[
        str | None,
        typer.Option(
            envvar="PERDURE_METRICS_LISTEN",
            metavar="HOST:PORT",
            show_default="off",
            help="Serve metrics for Prometheus there; port 0: a free one, which the log tells.",
        ),
    ] = None,
    health_listen: Annotated[
        str | None,
        typer.Option(
            envvar="PERDURE_HEALTH_LISTEN",
            metavar="HOST:PORT|unix:PATH",
            show_default="off",
            help="Additional address that serves health checks only, without TLS.",
        ),
    ] = None,
    backup_dir: Annotated[
        Path | None,
        typer.Option(
            envvar="PERDURE_BACKUP_DIR",
            metavar="DIRECTORY",
            show_default="off",
            help="Allow `perdure db backup NAME`, which writes to this directory.",
        ),
    ] = None,
    shutdown_timeout: Annotated[
        str,
        typer.Option(
            envvar="PERDURE_SHUTDOWN_TIMEOUT", help="How long a stop waits for running steps and calls."
        ),
    ] = f"{SHUTDOWN_TIMEOUT_SECONDS:g}s",
    max_async_steps: Annotated[
        int,
        typer.Option(envvar="PERDURE_MAX_ASYNC_STEPS", min=1, help="How many async def steps run at once."),
    ] = ASYNC_STEPS_MAX,
    max_sync_steps: Annotated[
        int,
        typer.Option(
            envvar="PERDURE_MAX_SYNC_STEPS", min=1, help="How many plain functions run as steps at once."
        ),
    ] = SYNC_STEPS_MAX,
) -> None:
    """Run a server for the workflows of APP...

    Prints `perdure listening on HOST:PORT` to stdout once it takes calls; logs go to stderr, a JSON document each.
    With --demo, two lines to try follow, and the database is :memory: unless another is named.
    """
    from perdure_server.api.limits import raise_file_limit
    from perdure_server.cli import streams
    from perdure_server.cli.apps import WORKING_FOLDER_GONE, AppError, load_workflows
    from perdure_server.process.host import Host

    host = Host(owns_process=streams.is_own_process)
    host.enter()
    shutdown_timeout_seconds = seconds_of(shutdown_timeout, "--shutdown-timeout")
    try:
        os.getcwd()
    except OSError as error:
        fail(f"{WORKING_FOLDER_GONE}: {error.strerror}", hint="change to another one")
    for option, file in (
        ("--tls-cert", tls_cert),
        ("--tls-key", tls_key),
        ("--tls-client-ca", tls_client_ca),
    ):
        if file is not None and not file.is_file():
            fail(f"{option}: there is no file {file}")
    listen, health_listen = _check_addresses(listen, metrics_listen, health_listen)
    raise_file_limit()
    # Code of users may change the working folder, so no relative path outlives this line. Links are kept: their targets
    # change when certificates are renewed.
    tls_cert, tls_key, tls_client_ca = (
        file and file.absolute() for file in (tls_cert, tls_key, tls_client_ca)
    )
    if database is None:
        database = DATABASE_MEMORY if demo else DATABASE_DEFAULT
    database = _absolute_url(database)
    if backup_dir is not None:
        backup_dir = _backup_directory(backup_dir)
    if demo and apps:
        fail("--demo serves its own workflow", hint="leave out the APP")
    if not demo and not apps:
        fail("no APP to serve", hint="name a .py file or a module, or try `perdure serve --demo`")
    try:
        found = _demo_workflows() if demo else load_workflows(apps or ())
    except AppError as error:
        fail_app(error)
    host.code_loaded()
    config = Config(
        workflows=found,
        database=database,
        listen=listen,
        tls_cert=tls_cert,
        tls_key=tls_key,
        tls_client_ca=tls_client_ca,
        insecure=insecure,
        reflection=reflection,
        metrics_listen=metrics_listen,
        health_listen=health_listen,
        backup_dir=backup_dir,
        shutdown_timeout_seconds=shutdown_timeout_seconds,
        max_async_steps=max_async_steps,
        max_sync_steps=max_sync_steps,
    )
    _run(config, host, functools.partial(_print_hints, config, host) if demo else None)


_NAMES: Final = {
    "--metrics-listen": "metrics a port of their own",
    "--health-listen": "health checks an address of their own",
}


def _check_addresses(listen: str, metrics_listen: str | None, health: str | None) -> tuple[str, str | None]:
    """Return the addresses to listen on, with absolute socket paths. Ends the command if one is wrong."""
    from perdure_server.security.addresses import Address, CannotListenError, is_one, parse_address
    from perdure_server.security.unix_socket import Endpoint, is_same, parse_endpoint

    def address_of(text: str, option: str, parse: Callable[[str], Endpoint] = parse_endpoint) -> Endpoint:
        try:
            return parse(text)
        except CannotListenError as error:
            fail(f"{option}: {error}")

    def conflict(one: Endpoint, other: Endpoint) -> bool:
        if isinstance(one, Address) and isinstance(other, Address):
            return is_one(one, other)
        return is_same(one, other)

    address = address_of(listen, "--listen")
    taken = [("--listen", listen, address)]
    if metrics_listen is not None:
        taken.append(
            (
                "--metrics-listen",
                metrics_listen,
                address_of(metrics_listen, "--metrics-listen", parse_address),
            )
        )
    if health is not None:
        taken.append(("--health-listen", health, address_of(health, "--health-listen")))
    for number, (option, text, found) in enumerate(taken):
        for other_option, other_text, other in taken[:number]:
            if conflict(found, other):
                fail(
                    f"{option} {text} is the address of {other_option} {other_text}",
                    hint=f"give {_NAMES[option]}; port 0 takes a free one",
                )
    return str(address), None if health is None else str(taken[-1][2])


def _backup_directory(given: Path) -> Path:
    from perdure_server.runtime.backups import BackupDirectoryError, backup_directory

    try:
        return Path(backup_directory(given))
    except BackupDirectoryError as error:
        fail(f"--backup-dir: {error.message}", hint=error.hint)


def _demo_workflows() -> tuple[type[Workflow], ...]:
    from perdure_server.cli.demo import Demo

    return (Demo,)


def _print_hints(config: Config, host: Host, address: str) -> None:
    from perdure_server.cli.demo import hints

    lines = hints(
        address,
        tls_cert=config.tls_cert,
        tls_key=config.tls_key,
        client_cert=config.tls_client_ca is not None,
    )
    host.output.print_line(lines)


def _absolute_url(database: str) -> str:
    from perdure_server.store.factory import absolute_url

    try:
        return absolute_url(database)
    except ValueError as error:
        fail(str(error))


def _run(config: Config, host: Host, on_ready: Callable[[str], None] | None) -> None:
    from perdure_server import app
    from perdure_server.executors.steps_loop import LifespanError
    from perdure_server.runtime.definitions import DefinitionInUseError
    from perdure_server.security.addresses import CannotListenError
    from perdure_server.store.protocol import StoreError

    try:
        app.run(config, host, on_ready)
    except (CannotListenError, DefinitionInUseError, LifespanError, StoreError) as error:
        fail(str(error), code=Exit.REFUSED)


def fail_app(error: AppError) -> NoReturn:
    """End the command with an APP's error, its issues line by line."""
    if not error.issues:
        fail(str(error))
    raise CommandError(
        str(error),
        hint="hint what is listed",
        code=Exit.REFUSED,
        reason="WORKFLOW_INVALID",
        issues=[str(issue) for issue in error.issues],
    )
