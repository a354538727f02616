"""A replayed delivery, by an attacker and by an operator, between a provider and an application that sends e-mail."""

import asyncio
from collections import Counter
from pathlib import Path

import httpx

from handlers.conftest import handler
from handlers.receiving import Message, Reply, receiving
from installation import FULL, running
from ops.lab.deliveries import Delivery
from ops.lab.process import running_lab
from support.conditions import HANG_SECONDS, until


TIMES = 1000 if FULL else 40
AT_ONCE = 20
NOTIFICATION = "imin.update-notification"


def test_a_replayed_delivery_makes_one_change_and_one_effect_a_notification(tmp_path: Path) -> None:
    """Posted many times, replayed as often by an operator, its changes sent again: each notification had one effect."""
    sent: Counter[str] = Counter()
    effects: dict[str, str] = {}

    def send_an_email_once(message: Message) -> Reply:
        sent[message.id] += 1
        effects.setdefault(message.id, message.data["external_id"])
        return Reply()

    with running_lab(seed=5) as lab, receiving(send_an_email_once) as app:
        config = lab.config_toml({"base_seconds": 0.2, "max_seconds": 2.0})
        kinds = f'kinds = ["{NOTIFICATION}"]'
        with running(tmp_path, lab, f"{config}\n{handler(app.url, kinds)}") as up:
            delivery = [lab.happen("imin", customer="abc") for _ in range(2)][-1]
            answers = asyncio.run(_posted(up.ingress, delivery))
            assert Counter({204: TIMES}) == Counter(answer.status_code for answer in answers)
            rows = up.finished(*(answer.headers["x-penstock-event"] for answer in answers), within=300)
            assert Counter(done=TIMES) == Counter(row["state"] for row in rows)

            up.penstock("events", "replay", "--provider", "imin", "--reason", "an attacker's, or a slip of the hand")
            again = up.finished(*(row["id"] for row in rows), within=300)
            assert Counter(done=TIMES) == Counter(row["state"] for row in again)
            assert {"replayed": TIMES} == up.lines("replays", "list")[0]["counts"]

            def all_handed_over() -> bool:
                listed = up.lines("handovers", "list", "--limit", "0")
                return bool(listed) and {"done"} == {row["state"] for row in listed}

            until(all_handed_over)
            once = Counter(sent)
            up.penstock("handovers", "replay", "--kind", NOTIFICATION, "--reason", "the mail server lost some")
            until(lambda: sent.total() == 2 * once.total() and all_handed_over(), otherwise=lambda: sent)

            changes = [row for row in up.lines("changes", "tail", "--limit", "0") if row["kind"] == NOTIFICATION]
            listed = up.lines("handovers", "list", "--limit", "0")
    notifications = {row["external_id"] for row in changes}
    assert 2 == len(notifications)
    assert Counter(dict.fromkeys(notifications, 1)) == Counter(row["external_id"] for row in changes)
    assert Counter(dict.fromkeys(notifications, 1)) == Counter(effects.values())
    assert {row["change"] for row in listed} == set(effects)
    assert {2} == set(sent.values())


async def _posted(ingress: str, delivery: Delivery) -> list[httpx.Response]:
    """The same delivery, again and again."""
    headers = dict(delivery.headers)
    limits = httpx.Limits(max_connections=AT_ONCE)
    async with httpx.AsyncClient(base_url=ingress, limits=limits, timeout=HANG_SECONDS) as client:
        posts = [client.post(delivery.path, content=delivery.body, headers=headers) for _ in range(TIMES)]
        return await asyncio.gather(*posts)
