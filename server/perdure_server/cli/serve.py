"""``perdure serve``: builds the server's `Config` from the command line and reports errors at startup."""

from __future__ import annotations

import functools
import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NoReturn

import click

from perdure.model.constants import DEFAULT_TARGET
from perdure_server.cli.errors import CommandError, Exit, fail
from perdure_server.cli.param_types import PATH, Seconds, epilog
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


def _setting(option: str, **settings: Any) -> Callable[[Any], Any]:
    """Return an option that can also be set by its environment variable, ``PERDURE_...``."""
    variable = f"PERDURE_{option.removeprefix('--').replace('-', '_').upper()}"
    return click.option(option, envvar=variable, show_envvar=True, **settings)


@click.command(
    "serve",
    epilog=epilog(
        "perdure serve --demo",
        "perdure serve examples/order.py",
        "perdure serve shop.workflows --database sqlite:////var/lib/perdure/shop.db --listen 127.0.0.1:7420",
        "perdure serve order.py --listen 0.0.0.0:7420 --tls-cert server.pem --tls-key server.key",
    )
    + "\n\nStop the server with SIGTERM or Ctrl-C. A second signal stops it at once.",
)
@click.argument("apps", metavar="[APP]...", nargs=-1, help="A .py file or a module with Workflow classes.")
@click.option("--demo", is_flag=True, help="Serve a small demo workflow, in memory.")
@_setting(
    "--database",
    metavar="URL",
    show_default=DATABASE_DEFAULT,
    help="sqlite:///FILE (relative), sqlite:////FILE (absolute) or :memory:.",
)
@_setting(
    "--listen",
    metavar="HOST:PORT|unix:PATH",
    default=DEFAULT_TARGET,
    help="Address to listen on. Port 0 takes a free port.",
)
@_setting("--tls-cert", type=PATH, help="Certificate chain of the server (PEM file).")
@_setting("--tls-key", type=PATH, help="Private key of the certificate (PEM file).")
@_setting("--tls-client-ca", type=PATH, help="Accept only clients with a certificate of this CA (PEM file).")
@_setting("--insecure", is_flag=True, help="Listen on a non-loopback address without TLS.")
@_setting("--reflection", is_flag=True, help="Offer gRPC server reflection.")
@_setting(
    "--metrics-listen",
    metavar="HOST:PORT",
    show_default="off",
    help="Address for Prometheus metrics. Port 0 takes a free port, which the log reports.",
)
@_setting(
    "--health-listen",
    metavar="HOST:PORT|unix:PATH",
    show_default="off",
    help="Additional address that serves health checks only, without TLS.",
)
@_setting(
    "--backup-dir",
    type=PATH,
    metavar="DIRECTORY",
    show_default="off",
    help="Directory for the backups of `perdure db backup NAME`.",
)
@_setting(
    "--shutdown-timeout",
    type=Seconds(),
    default=f"{SHUTDOWN_TIMEOUT_SECONDS:g}s",
    help="Maximum time that a stop waits for running steps and calls.",
)
@_setting(
    "--max-async-steps",
    type=click.IntRange(min=1),
    default=ASYNC_STEPS_MAX,
    help="Maximum number of concurrent `async def` steps.",
)
@_setting(
    "--max-sync-steps",
    type=click.IntRange(min=1),
    default=SYNC_STEPS_MAX,
    help="Maximum number of concurrent plain functions that run as steps.",
)
def serve(
    apps: tuple[str, ...],
    demo: bool,
    database: str | None,
    listen: str,
    tls_cert: Path | None,
    tls_key: Path | None,
    tls_client_ca: Path | None,
    insecure: bool,
    reflection: bool,
    metrics_listen: str | None,
    health_listen: str | None,
    backup_dir: Path | None,
    shutdown_timeout: float,
    max_async_steps: int,
    max_sync_steps: int,
) -> None:
    """Run a server for the workflows of each APP.

    The server prints `perdure listening on HOST:PORT` to stdout once it accepts calls. It logs to stderr, one JSON
    document per line. With --demo it also prints two commands to try, and the default database is :memory:.
    """
    from perdure_server.api.limits import raise_file_limit
    from perdure_server.cli import streams
    from perdure_server.cli.apps import WORKING_FOLDER_GONE, AppError, load_workflows
    from perdure_server.process.host import Host

    host = Host(owns_process=streams.is_own_process)
    host.enter()
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
    # User code can change the working folder, so all paths are absolute from here on. Links are not resolved, since
    # their targets change when certificates are renewed.
    tls_cert, tls_key, tls_client_ca = (
        file and file.absolute() for file in (tls_cert, tls_key, tls_client_ca)
    )
    if database is None:
        database = DATABASE_MEMORY if demo else DATABASE_DEFAULT
    database = _absolute_url(database)
    if backup_dir is not None:
        backup_dir = _backup_directory(backup_dir)
    if demo and apps:
        fail("--demo serves its own workflow", hint="omit the APP")
    if not demo and not apps:
        fail("no APP to serve", hint="name a .py file or a module, or try `perdure serve --demo`")
    try:
        found = _demo_workflows() if demo else load_workflows(apps)
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
        shutdown_timeout_seconds=shutdown_timeout,
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
        fail(str(error), code=Exit.REJECTED)


def fail_app(error: AppError) -> NoReturn:
    """End the command with the error of an APP, one issue per line."""
    if not error.issues:
        fail(str(error))
    raise CommandError(
        str(error),
        hint="fix the listed issues",
        code=Exit.REJECTED,
        reason="WORKFLOW_INVALID",
        issues=[str(issue) for issue in error.issues],
    )
