"""Where messages may go is decided by the address that a name resolves to, when the connection is made."""

import asyncio
import contextlib
import socket
import threading
from collections.abc import Callable

import pytest
from pydantic import ValidationError

from handlers.conftest import SECRET, Store, handler
from handlers.receiving import receiving
from shared.handlers.settings import Handler
from workers.addresses import ForbiddenAddress, socket_factory
from workers.calling import NoAnswer
from workers.hand_over.delivering import HandingOver
from workers.hand_over.posting import Poster


Handing = Callable[[str], HandingOver]


def _address(text: str) -> tuple[object, ...]:
    family = socket.AF_INET6 if ":" in text else socket.AF_INET
    return family, socket.SOCK_STREAM, 6, "", (text, 443)


@pytest.mark.parametrize("address", ["8.8.8.8", "2606:4700::1111", "2002:0808:0808::1"])
def test_public_addresses_are_connected_to(address: str) -> None:
    """Whatever the settings say."""
    for allow_private in (False, True):
        socket_factory(at_home=False, allow_private=allow_private)(_address(address)).close()


@pytest.mark.parametrize(
    "address", ["10.0.0.5", "172.16.1.1", "192.168.1.1", "100.64.0.1", "127.0.0.1", "::1", "fd00::1"]
)
def test_private_addresses_only_when_the_settings_allow_it(address: str) -> None:
    """A public name that resolves to one may be an attack (DNS rebinding)."""
    with pytest.raises(ForbiddenAddress, match="allow_private"):
        socket_factory(at_home=False, allow_private=False)(_address(address))
    socket_factory(at_home=False, allow_private=True)(_address(address)).close()


@pytest.mark.parametrize(
    "address", ["169.254.169.254", "fe80::1%1", "224.0.0.1", "0.0.0.0", "::", "240.0.0.1", "::ffff:169.254.169.254"]
)
def test_addresses_that_no_application_has_are_never_connected_to(address: str) -> None:
    """Link-local (a cloud's metadata), multicast, unspecified, reserved."""
    for allow_private in (False, True):
        with pytest.raises(ForbiddenAddress):
            socket_factory(at_home=False, allow_private=allow_private)(_address(address))


@pytest.mark.parametrize("address", ["::ffff:10.0.0.5", "64:ff9b::a00:5", "2002:0a00:0005::1", "::ffff:127.0.0.1"])
def test_a_private_address_inside_an_ipv6_one_is_private(address: str) -> None:
    """Mapped, NAT64, 6to4."""
    with pytest.raises(ForbiddenAddress):
        socket_factory(at_home=False, allow_private=False)(_address(address))


def test_a_url_that_names_a_loopback_address_reaches_this_machine_alone() -> None:
    """That is said in the settings, and nothing else is."""
    socket_factory(at_home=True, allow_private=False)(_address("127.0.0.1")).close()
    socket_factory(at_home=True, allow_private=False)(_address("::1")).close()
    for address in ("10.0.0.5", "8.8.8.8"):
        with pytest.raises(ForbiddenAddress):
            socket_factory(at_home=True, allow_private=False)(_address(address))


def test_a_name_that_resolves_to_this_machine_is_not_reached(store: Store, handing: Handing) -> None:
    """The host name of this machine resolves to an address of its own; no byte arrives, and the reason is told."""
    store.change()
    name = socket.gethostname()
    with receiving() as app:
        url = f"http://{name}:{app.server_port}/hook"
        handing(handler(url, "allow_insecure = true")).run("crm")
        assert [] == app.got
        assert "allow_private" in store.handover()["error_detail"]


def test_the_settings_name_what_is_wrong() -> None:
    """A URL that is none, plain HTTP to elsewhere, a secret that signs nothing."""
    right = {"name": "crm", "url": "https://app.example.com/hook", "secret": SECRET}
    Handler.model_validate(right)
    for wrong, named in (
        ({"url": "http://app.example.com/hook"}, "allow_insecure"),
        ({"url": "ftp://app.example.com"}, "url"),
        ({"url": "https://user:pass@app.example.com"}, "url"),
        ({"secret": ""}, "empty"),
        ({"secret": "whsec_"}, "base64"),
        ({"secret": "not base64!"}, "base64"),
        ({"older_secrets": [""]}, "empty"),
        ({"ops": []}, "ops"),
        ({"ops": ["invented"]}, "ops"),
    ):
        with pytest.raises(ValidationError, match=named):
            Handler.model_validate({**right, **wrong})


def test_a_silent_host_costs_no_more_than_the_timeout() -> None:
    """It accepts the connection and says nothing."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"http://127.0.0.1:{silent.getsockname()[1]}/"
        silent_handler = Handler.model_validate({"name": "crm", "url": url, "secret": SECRET, "timeout_seconds": 0.2})

        async def post() -> None:
            poster = Poster()
            try:
                await poster.post(silent_handler, {}, b"{}")
            finally:
                await poster.close()

        with pytest.raises(NoAnswer, match=r"within 0\.2 s"):
            asyncio.run(post())


@pytest.mark.parametrize(
    "garbage",
    [
        b"SSH-2.0-server\r\n",
        bytes(range(256)) * 300,
        b"HTTP/1.1 200 OK\r\nx: " + b"y" * 100_000,
        b"HTTP/1.1 204\r\n",
        b"",
    ],
    ids=["another protocol", "bytes", "an endless header", "half an answer", "nothing"],
)
def test_garbage_is_no_answer(garbage: bytes) -> None:
    """Whatever it says, it did not say that it has the change."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        url = f"http://127.0.0.1:{server.getsockname()[1]}/"
        told = Handler.model_validate({"name": "crm", "url": url, "secret": SECRET, "timeout_seconds": 5})

        def answer() -> None:
            connection, _ = server.accept()
            with connection, contextlib.suppress(OSError):
                connection.recv(65536)
                connection.sendall(garbage)

        async def post() -> None:
            poster = Poster()
            try:
                await poster.post(told, {}, b"{}")
            finally:
                await poster.close()

        thread = threading.Thread(target=answer)
        thread.start()
        with pytest.raises(NoAnswer):
            asyncio.run(post())
        thread.join()
