"""`penstock up`: everything on one machine, from the lock to the last signal."""

import asyncio
import os
import signal
import subprocess
from types import FrameType

from ops.installation import Installation, NotedProcess
from ops.supervisor.alive import started_at
from ops.supervisor.children import Child
from ops.supervisor.counts import OpenCounts
from ops.supervisor.demo import let_go_of_demo
from ops.supervisor.lock import only_one
from ops.supervisor.logs import rotate, tail
from ops.supervisor.metrics import Metrics
from ops.supervisor.ports import taken_ports
from ops.supervisor.screen import Screen
from ops.supervisor.secrets import encryption_keys, flower_password, keys_file
from ops.supervisor.stores import Stores, opened_stores
from ops.supervisor.supervisor import SIGNALS, Supervisor
from ops.supervisor.table import (
    Options,
    child_environment,
    demo_config,
    ingress_url,
    lab,
    metrics_folder,
    roles,
    settled,
)
from shared import strangers
from shared.errors import PenstockError
from shared.settings import Settings


def up(settings: Settings, options: Options, open_counts: OpenCounts, screen: Screen) -> None:
    """Run an installation until a signal ends it. To be called in the main thread. Raises PenstockError."""
    for number in SIGNALS:
        # Set explicitly: SIGINT is ignored in what a shell without job control starts in the background.
        signal.signal(number, _interrupt)
    if said := strangers.summary():
        screen.say(said)
    try:
        _run(settings, options, open_counts, screen)
    except KeyboardInterrupt:
        screen.say("Stopped.")


def _run(settings: Settings, options: Options, open_counts: OpenCounts, screen: Screen) -> None:
    with (
        only_one(settings.data, "run", "penstock up"),
        taken_ports(settings, move=options.demo, say=screen.say) as ports,
        opened_stores(settings) as stores,
    ):
        may_make_keys = options.demo or settings.database_url is None
        keys = encryption_keys(settings, make=may_make_keys, say=screen.say)
        final = settled(settings, options, stores=stores, ports=ports, keys=keys, password=flower_password(settings))
        _migrate(final, options)
        if not options.demo and (demo := demo_config(final)).exists():
            asyncio.run(let_go_of_demo(final, demo))
            screen.say("The accounts of the demo are removed; what it brought stays.")
        metrics = Metrics(metrics_folder(final))
        try:
            metrics.serve(final.host, final.metrics_port)
        except OSError as error:
            screen.say(f"metrics cannot be served on port {final.metrics_port}: {error.strerror}")
        try:
            supervisor = Supervisor(
                settings=final,
                first=[lab(final, options)] if options.demo else [],
                others=roles(final, options, ports),
                servers=[Child(server.program(), server.spawn, server.process) for server in stores.servers],
                installation=_installation(settings, final, stores),
                screen=screen,
                listener=ports.ingress,
            )
            asyncio.run(supervisor.run(options, open_counts))
        finally:
            metrics.close()


def _migrate(settings: Settings, options: Options) -> None:
    log = settings.data / "logs" / "migrate.log"
    rotate(log)
    with log.open("ab") as output:
        done = subprocess.run(  # noqa: S603 - the argument list is ours
            [*options.command, "migrate"],
            check=False,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            env=child_environment(settings),
        )
    if done.returncode:
        raise PenstockError(f"the migrations failed; their log {log} ends with:\n{tail(log)}")


def _installation(asked: Settings, final: Settings, stores: Stores) -> Installation:
    pid = os.getpid()
    return Installation(
        supervisor=NotedProcess("supervisor", pid, started_at(pid) or 0),
        processes=(),
        ingress_url=ingress_url(final),
        database_url=stores.database_url,
        redis_url=stores.redis_url,
        blob_url=asked.blob_url,
        config=str(final.config),
        # Keys that were handed to us are not written down.
        encryption_keys_file=None if asked.encryption_keys else str(keys_file(asked.data)),
        flower_password=final.flower_password.get_secret_value() if final.flower_password else "",
    )


def _interrupt(_number: int, _frame: FrameType | None) -> None:
    raise KeyboardInterrupt
