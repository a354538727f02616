"""``penstock lab``: play the four providers, and send sample deliveries correctly signed."""

import asyncio
import time
from pathlib import Path
from typing import Annotated

import typer
from httpx_aiohttp import HttpxAiohttpClient

from ops.cli.examples import examples
from ops.installation import completed, running
from ops.lab.deliveries import Delivery
from ops.lab.samples import Samples, chosen_account, find_lab
from ops.lab.sender import TIMEOUT_SECONDS, Attempt, content_with, post
from ops.lab.server import LabOptions
from ops.lab.server import run as run_server
from shared.configuration import read_configuration
from shared.settings import Settings


app = typer.Typer(
    add_completion=False,
    no_args_is_help=True,
    help="The provider lab: the four providers' APIs and senders, played on this machine.",
)

_IN_FLIGHT = 20


@app.command(
    epilog=examples(
        "penstock lab run --config-out penstock.toml",
        "penstock lab run --no-traffic --port-control 9900",
        "penstock lab run --rate 50 --clock-speed 60",
    )
)
def run(
    seed: Annotated[int, typer.Option(help="What the world and all keys follow from.")] = 1,
    rate: Annotated[float, typer.Option(min=0.01, help="Deliveries a second of the lab's own traffic.")] = 5.0,
    ingress: Annotated[str, typer.Option(help="Where deliveries go. Default: this machine's ingress port.")] = "",
    clock_speed: Annotated[float, typer.Option(min=0.001, help="How much faster redelivery's clock runs.")] = 1.0,
    latency: Annotated[float, typer.Option(min=0.0, help="Seconds that every API call takes.")] = 0.0,
    port_imin: Annotated[int, typer.Option(min=0, max=65535, help="0: a free one.")] = 0,
    port_magicline: Annotated[int, typer.Option(min=0, max=65535, help="0: a free one.")] = 0,
    port_paybook: Annotated[int, typer.Option(min=0, max=65535, help="0: a free one.")] = 0,
    port_authenteq: Annotated[int, typer.Option(min=0, max=65535, help="0: a free one.")] = 0,
    port_control: Annotated[int, typer.Option(min=0, max=65535, help="0: a free one.")] = 0,
    traffic: Annotated[bool, typer.Option(help="Send a steady mix of all four providers' events.")] = True,
    config_out: Annotated[Path | None, typer.Option(help="Write the penstock.toml that fits this lab here.")] = None,
) -> None:
    """Play the four providers until Ctrl-C; prints one JSON line with the ports when they answer."""
    settings = Settings.read()
    options = LabOptions(
        seed=seed,
        rate=rate if traffic else 0.0,
        ingress=ingress or _own_ingress(settings),
        clock_speed=clock_speed,
        latency=latency,
        ports={
            "imin": port_imin,
            "magicline": port_magicline,
            "paybook": port_paybook,
            "authenteq": port_authenteq,
            "control": port_control,
        },
        config_out=str(config_out or ""),
        state_out=str(_state(settings)),
    )
    run_server(options, typer.echo)


@app.command(
    epilog=examples(
        "penstock lab send magicline --event CONTRACT_CREATED",
        "penstock lab send paybook --event refresh --duplicate",
        "penstock lab send imin --count 1000 --rate 100",
    )
)
def send(
    provider: Annotated[str, typer.Argument(help="imin, magicline, paybook or authenteq.")],
    event: Annotated[str, typer.Option(help="Which event. Default: the provider's commonest.")] = "",
    count: Annotated[int, typer.Option(min=1, help="How many.")] = 1,
    rate: Annotated[float, typer.Option(min=0.0, help="How many a second. Default: as fast as they are taken.")] = 0.0,
    account: Annotated[str, typer.Option(help="Which account of penstock.toml. Default: the first.")] = "",
    duplicate: Annotated[bool, typer.Option("--duplicate", help="Send each delivery twice, byte for byte.")] = False,
    ingress: Annotated[str, typer.Option(help="Where to. Default: this machine's ingress port.")] = "",
    lab: Annotated[str, typer.Option(help="The control URL of a running lab. Default: the one started here.")] = "",
) -> None:
    """Send sample deliveries, signed with an account of penstock.toml; a line for each, and a summary."""
    settings = completed(Settings.read())
    chosen = chosen_account(read_configuration(settings.config), provider, account, settings.config)
    # Another seed each time: ids that were sent before would be duplicates to the receiver.
    samples = Samples(chosen, find_lab(lab, _state(settings)), seed=time.time_ns())
    to = ingress or _own_ingress(settings)
    attempts = asyncio.run(_send_all(samples, to, event, count, rate, twice=duplicate))
    taken = sum(content_with(provider, attempt.status) for attempt in attempts)
    slowest = max(attempt.ms for attempt in attempts)
    of_lab = "the lab's world changed with each" if samples.world_is_changed else "ids are invented"
    typer.echo(f"{len(attempts)} sent, {taken} acknowledged, slowest {slowest:.1f} ms; {of_lab}")
    if taken < len(attempts):
        raise typer.Exit(1)


async def _send_all(
    samples: Samples, ingress: str, event: str, count: int, rate: float, *, twice: bool
) -> list[Attempt]:
    began = time.monotonic()
    most = asyncio.Semaphore(_IN_FLIGHT)
    attempts: list[Attempt] = []

    async with HttpxAiohttpClient(timeout=TIMEOUT_SECONDS) as client:

        async def one(position: int) -> None:
            if rate:
                await asyncio.sleep(max(0.0, began + position / rate - time.monotonic()))
            async with most:
                delivery = await samples.next(client, event, {})
                for _ in range(2 if twice else 1):
                    attempt = await post(client, ingress.rstrip("/"), delivery)
                    attempts.append(attempt)
                    typer.echo(_line(delivery, attempt))

        await one(0)  # the first alone: a wrong event or address is said once
        await asyncio.gather(*(one(position) for position in range(1, count)))
    return attempts


def _line(delivery: Delivery, attempt: Attempt) -> str:
    status = str(attempt.status) if attempt.status else attempt.error
    receipt = f"  {attempt.receipt} ({attempt.durability})" if attempt.receipt else ""
    return f"{delivery.provider}/{delivery.account}  {status}  {attempt.ms:.1f} ms{receipt}"


def _own_ingress(settings: Settings) -> str:
    installation = running(settings.data)
    return installation.ingress_url if installation else f"http://127.0.0.1:{settings.ingress_port}"


def _state(settings: Settings) -> Path:
    return settings.data / "run" / "lab.json"
