"""Many rows, many deliveries at once, and answers that fail: exact all the same."""

import asyncio
from collections import Counter

import httpx

from installation import Installation
from ops.installation import running as noted_installation
from ops.lab.deliveries import Delivery
from ops.lab.faults import Fault
from shared.store.postgres import connect_once
from support.conditions import HANG_SECONDS


PAGES = 40
ROWS = 5000
AT_ONCE = 100


def refresh(installation: Installation) -> str:
    """A refresh of 40 full pages of a new credential; its event, finished."""
    installation.lab.set_refresh_size(transactions=PAGES * ROWS, attachments=1, limit=ROWS)
    created = installation.lab.send("paybook", "credential_create")[0]
    (credential,) = installation.finished(created["attempts"][0]["receipt"])
    name = installation.event(credential["id"])["fetches"][0]["url"].rpartition("/")[2]
    installation.lab.send("paybook", "credential_update", credential=name)
    sent = installation.lab.send("paybook", "refresh", credential=name, new=0, changed=0)[0]
    (row,) = installation.finished(sent["attempts"][0]["receipt"])
    assert "done" == row["state"], installation.event(row["id"])
    return name


def transactions(installation: Installation, credential: str) -> list[str]:
    """The stored transactions of a credential."""
    rows = installation.lines("records", "list", "--kind", "paybook.transaction", "--limit", "0")
    return [row["external_id"] for row in rows if row["data"]["id_credential"] == credential]


def pages_fetched(installation: Installation, credential: str) -> Counter[str]:
    """How often each page of transactions was answered as it should be."""
    counts = installation.lab.calls("paybook", f"/v1/transactions?id_credential={credential}", limit=1)["counts"]
    return Counter({path: outcomes.get("ok", 0) for path, outcomes in counts.items()})


def fetched_after_their_end(installation: Installation, credential: str) -> list[str]:
    """Pages that were asked for although their fetch had finished, each by the time of its call.

    An answer that the lab gave and that never came is no finished page: on a slow machine a call may meet its deadline.
    """

    async def finished() -> dict[str, float]:
        noted = noted_installation(installation.folder / ".penstock")
        assert noted
        connection = await connect_once(noted.database_url)
        try:
            rows = await connection.fetch(
                "SELECT path, extract(epoch FROM max(finished_at))::float8 AS at FROM fetches"
                " WHERE path LIKE '/v1/transactions?id_credential=' || $1 || '%' GROUP BY path",
                credential,
            )
            return {row["path"]: row["at"] for row in rows}
        finally:
            await connection.close()

    ends = asyncio.run(finished())
    calls = installation.lab.calls("paybook", f"/v1/transactions?id_credential={credential}")["calls"]
    assert ends.keys() == {call["path"] for call in calls}
    return [call["path"] for call in calls if call["at"] > ends[call["path"]]]


def test_a_refresh_of_200_000_transactions_is_exact_and_each_page_is_fetched_once(installation: Installation) -> None:
    """40 full pages of 5,000 and one 41st, empty; no page twice."""
    credential = refresh(installation)

    stored = transactions(installation, credential)
    pages = pages_fetched(installation, credential)
    assert (PAGES * ROWS, PAGES * ROWS) == (len(stored), len(set(stored)))
    assert (PAGES + 1, {1}) == (len(pages), set(pages.values()))


def test_with_a_fifth_of_the_answers_failing_the_same_records_and_no_finished_page_again(
    installation: Installation,
) -> None:
    """A page that fails is retried alone."""
    installation.lab.set_faults(
        Fault(kind="status", provider="paybook", path="/v1/transactions", probability=0.1, status=500),
        Fault(kind="truncate", provider="paybook", path="/v1/transactions", probability=0.1),
    )

    credential = refresh(installation)

    stored = transactions(installation, credential)
    pages = pages_fetched(installation, credential)
    outcomes = installation.lab.calls("paybook", "/v1/transactions", limit=1)["outcomes"]["paybook"]
    assert (PAGES * ROWS, PAGES * ROWS) == (len(stored), len(set(stored)))
    assert (PAGES + 1, 1) == (len(pages), min(pages.values()))
    assert {"status", "truncate"} & outcomes.keys(), outcomes
    assert [] == fetched_after_their_end(installation, credential)


def test_the_same_delivery_100_times_at_once_has_one_effect(installation: Installation) -> None:
    """100 acknowledgements, one set of changes, one call; imin, which has no identity: at most two calls."""
    lab = installation.lab
    deliveries = {
        "magicline": lab.happen("magicline", "CUSTOMER_CREATED"),
        "paybook": lab.happen("paybook", "credential_create"),
        "authenteq": lab.happen("authenteq"),
        "imin": lab.happen("imin", customer="c-4242"),
    }
    for provider, delivery in deliveries.items():
        lab.reset()
        before = len(installation.lines("changes", "tail", "--limit", "1000000"))

        answers = asyncio.run(at_once(installation.ingress, delivery))

        expected = 204 if provider == "imin" else 200
        assert Counter({expected: AT_ONCE}) == Counter(answer.status_code for answer in answers)
        rows = installation.finished(*(answer.headers["x-penstock-event"] for answer in answers))
        calls = lab.calls(provider)["total"]
        states = Counter(row["state"] for row in rows)
        new = installation.lines("changes", "tail", "--limit", "1000000")[before:]
        assert len(new) == len({(entry["kind"], entry["external_id"]) for entry in new}), provider
        if provider == "imin":
            assert 1 <= calls <= 2
            assert Counter(done=AT_ONCE) == states
        else:
            assert (0 if provider == "authenteq" else 1) == calls, provider
            assert Counter(done=1, duplicate=AT_ONCE - 1) == states, provider


async def at_once(ingress: str, delivery: Delivery) -> list[httpx.Response]:
    """Post one delivery many times side by side."""
    limits = httpx.Limits(max_connections=AT_ONCE)
    async with httpx.AsyncClient(base_url=ingress, limits=limits, timeout=HANG_SECONDS) as client:
        headers = dict(delivery.headers)
        posts = [client.post(delivery.path, content=delivery.body, headers=headers) for _ in range(AT_ONCE)]
        return await asyncio.gather(*posts)
