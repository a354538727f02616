"""The ports that people and providers meet: taken before anything is started, so that a taken one is one sentence.

Without ingress' there is nothing to start. Any other is only missed: what it is for begins when the port is free.
"""

import errno
import socket
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass

from shared.errors import SettingsError
from shared.settings import Settings


_TRIES = 100


class _Taken(SettingsError):
    """Another program listens there."""


@dataclass(frozen=True, slots=True)
class Ports:
    """What is listened on; all but ``ingress`` are only known free.

    ``ingress`` is bound and handed to every ingress process, which listens on it: before one does, a connection is
    refused at once instead of waiting for as long as the start takes.
    """

    ingress: socket.socket
    ingress_port: int
    console_port: int
    flower_port: int
    metrics_port: int


@contextmanager
def taken_ports(settings: Settings, *, move: bool, say: Callable[[str], None]) -> Iterator[Ports]:
    """Find and hold the ports. With ``move`` the next free one is used where one is taken.

    Raises SettingsError when ingress' is taken, or one that is not permitted.
    """
    with ExitStack() as held:
        ingress = held.enter_context(_open(settings, "ingress_port", move=move))
        numbers = {"ingress_port": ingress.getsockname()[1]}
        others: list[socket.socket] = []
        for name in ("console_port", "flower_port", "metrics_port"):
            try:
                others.append(held.enter_context(_open(settings, name, move=move)))
            except _Taken as taken:
                # Who takes deliveries does not end for who shows them.
                say(f"{name.removesuffix('_port')} is missing: {taken}.")
                numbers[name] = getattr(settings, name)
            else:
                numbers[name] = others[-1].getsockname()[1]
        for name, number in numbers.items():
            if (wanted := getattr(settings, name)) not in {0, number}:
                say(f"Port {wanted} is taken; {name.removesuffix('_port')} uses {number} ({_variable(name)}).")
        for other in others:
            other.close()
        yield Ports(ingress=ingress, **numbers)


def is_free(host: str, port: int) -> bool:
    """Whether one may listen there now."""
    try:
        _bind(host, port).close()
    except OSError:
        return False
    return True


def reachable(host: str) -> str:
    """The host to use in a URL for what is bound to ``host``."""
    host = {"0.0.0.0": "127.0.0.1", "::": "::1", "": "127.0.0.1"}.get(host, host)
    return f"[{host}]" if ":" in host else host


def _open(settings: Settings, name: str, *, move: bool) -> socket.socket:
    wanted: int = getattr(settings, name)
    for port in range(wanted, wanted + _TRIES if move and wanted else wanted + 1):
        try:
            return _bind(settings.host, port)
        except PermissionError:
            raise SettingsError(f"{_variable(name)}: you may not listen on port {port}; set it above 1023") from None
        except OSError as error:
            if error.errno != errno.EADDRINUSE:
                raise SettingsError(f"PENSTOCK_HOST: cannot listen on {settings.host}: {error.strerror}") from None
    raise _Taken(f"port {wanted} is taken: set {_variable(name)} to another (0 takes any free one)")


def _bind(host: str, port: int) -> socket.socket:
    bound = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET)
    try:
        # Past connections of a former run must not keep the port taken; a program that listens on it still does.
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        bound.bind((host, port))
    except OSError:
        bound.close()
        raise
    return bound


def _variable(name: str) -> str:
    return f"PENSTOCK_{name.upper()}"
