"""Changes handed over by HTTP: signed, enveloped, in order, gently, and to nobody but whom the settings name."""

import json
import threading
import time
from collections.abc import Callable
from decimal import Decimal

import pytest
from cloudevents.core.bindings.http import HTTPMessage, from_http_event
from prometheus_client import REGISTRY
from standardwebhooks.webhooks import Webhook, WebhookVerificationError

from handlers.conftest import OLDER, PATIENT, SECRET, Store, handler
from handlers.receiving import Message, Reply, receiving
from support.conditions import until
from workers.hand_over.delivering import HandingOver


Handing = Callable[[str], HandingOver]


def test_every_message_is_accepted_by_the_published_verifier_and_read_by_a_cloudevents_parser(
    store: Store, handing: Handing
) -> None:
    """Signature and envelope; the data is the change with its record, its numbers to the last digit."""
    store.change(50)
    store.run("UPDATE changes SET external_id = E'a\\u0007b' WHERE id = 1")
    store.run("UPDATE records SET external_id = E'a\\u0007b' WHERE external_id = '1'")
    with receiving() as app:
        assert "50 handed over" == handing(handler(app.url)).run("crm")
    assert 50 == len({message.id for message in app.got})
    for message in app.got:
        Webhook(SECRET).verify(message.body, dict(message.headers))
        event = from_http_event(HTTPMessage(dict(message.headers), message.body))
        assert message.id == event.get_id()
        assert ("/penstock/magicline/berlin", "magicline.customer.updated") == (event.get_source(), event.get_type())
        assert "1.0" == event.get_specversion()
    by_seq = {message.data["seq"]: message for message in app.got}
    exact = json.JSONDecoder(parse_float=Decimal).decode(by_seq[2].body.decode())
    assert {
        "id": by_seq[2].id,
        "seq": 2,
        "op": "updated",
        "provider": "magicline",
        "account": "berlin",
        "kind": "magicline.customer",
        "external_id": "2",
        "changed": ["status"],
        "event_id": None,
        "at": exact["time"],
        "record": {"id": 7, "status": "MEMBER", "firstName": "Ana", "balance": Decimal("22339.470000000001")},
    } == exact["data"]
    assert "a\x07b" == by_seq[1].data["external_id"]


def test_while_a_secret_is_changed_receivers_may_know_either(store: Store, handing: Handing) -> None:
    """Each message carries a signature of the new secret and of the old one."""
    store.change()
    with receiving() as app:
        handing(handler(app.url, f'older_secrets = ["{OLDER}"]')).run("crm")
    (message,) = app.got
    for known in (SECRET, OLDER):
        Webhook(known).verify(message.body, dict(message.headers))
    with pytest.raises(WebhookVerificationError):
        Webhook("whsec_" + 32 * "A").verify(message.body, dict(message.headers))


def test_only_the_kinds_and_operations_that_are_wanted_arrive(store: Store, handing: Handing) -> None:
    """The others make no hand-over at all."""
    store.change(2)
    store.change(2, kind="magicline.contract")
    store.change(2, op="deleted")
    with receiving() as app:
        wanted = ('kinds = ["magicline.customer"]', 'ops = ["updated"]')
        handing(handler(app.url, *wanted)).run("crm")
    assert [1, 2] == sorted(message.data["seq"] for message in app.got)
    assert {"done": 2} == store.states()


def test_a_new_handler_begins_with_what_changes_from_now_on(store: Store, handing: Handing) -> None:
    """What the feed held before is not sent, unless the settings say so."""
    store.change(3)
    with receiving() as app:
        step = handing(handler(app.url).replace("beginning", "now"))
        step.run("crm")
        store.change(2)
        step.run("crm")
    assert [4, 5] == sorted(message.data["seq"] for message in app.got)


def test_the_changes_of_a_record_arrive_one_after_the_other_in_order(store: Store, handing: Handing) -> None:
    """Also when some fail: those behind wait, those of other records go on."""
    store.change(120, records=6)
    failures = set(range(7, 120, 5))
    lock = threading.Lock()
    under_way: set[str] = set()
    overlaps: list[str] = []

    def reply(message: Message) -> Reply:
        record, seq = message.data["external_id"], message.data["seq"]
        with lock:
            if record in under_way:
                overlaps.append(record)
            under_way.add(record)
        time.sleep(0.002)
        with lock:
            under_way.discard(record)
            failed = seq in failures
            failures.discard(seq)
        return Reply(500 if failed else 204)

    with receiving(reply) as app:
        step = handing(handler(app.url))
        while store.states().get("done", 0) < 120:
            step.run("crm")
            store.due()
    assert [] == overlaps
    for record in range(6):
        seqs = [m.data["seq"] for m in app.got if m.data["external_id"] == str(record)]
        assert sorted(seqs) == seqs
        assert 20 == len(set(seqs))


def test_no_more_are_under_way_than_the_handler_allows(store: Store, handing: Handing) -> None:
    """Its concurrency; the first are answered when so many are there."""
    store.change(30)

    def reply(_: Message) -> Reply:
        until(lambda: app.most_at_once >= 3)
        return Reply(wait=0.02)

    with receiving(reply) as app:
        handing(handler(app.url, "concurrency = 3")).run("crm")
    assert (30, 3) == (len(app.got), app.most_at_once)


def test_no_more_are_sent_than_the_budget_allows(store: Store, handing: Handing) -> None:
    """At 20 a second: a tenth of a second's worth at once, and the rest spread out, by the clock of the claims."""
    store.change(40)
    with receiving() as app:
        step = handing(handler(app.url, "budget = { calls = 20, seconds = 1 }"))
        while len(app.got) < 22:
            step.run("crm")
    rows = store.run("SELECT extract(epoch FROM began_at)::float8 AS at FROM handovers WHERE state = 'done'")
    began = sorted(row["at"] for row in rows)
    assert len(app.got) == len(began)
    for first, at in enumerate(began):
        for more, later in enumerate(began[first:]):
            assert 1 + more <= (later - at) * 20 + 2 + 1e-3


@pytest.mark.parametrize(
    ("reply", "reason"),
    [
        (Reply(500, body=b"out\nof order"), "refused"),
        (Reply(401), "refused"),
        (Reply(302, {"location": "/elsewhere"}), "redirected"),
        (Reply(0), "no-answer"),
        (Reply(wait=1.0), "no-answer"),
        (Reply(99), "no-answer"),
    ],
)
def test_what_fails_waits_and_in_the_end_is_parked(store: Store, handing: Handing, reply: Reply, reason: str) -> None:
    """With the reason; and what a redirect points to is never asked."""
    store.change()
    settings = f"{PATIENT}max_attempts = 2\n"
    with receiving(lambda _: reply) as app:
        step = handing(settings + handler(app.url, f"timeout_seconds = {0.3 if reply.wait else 20}"))
        step.run("crm")
        first = store.handover()
        store.due()
        step.run("crm")
        second = store.handover()
        store.due()
        step.run("crm")
    assert ("waiting", reason, 1) == (first["state"], first["error_reason"], first["attempts"])
    assert ("parked", "attempts-used-up", 2) == (second["state"], second["error_reason"], second["attempts"])
    assert ["/hook", "/hook"] == [message.path for message in app.got]
    assert 1 == len({message.id for message in app.got})


def test_an_endpoint_that_is_gone_gets_nothing_more_until_it_has_another_url(store: Store, handing: Handing) -> None:
    """410 stops the handler, with the reason; its changes wait, and all arrive at the new URL."""
    store.change(20)
    with receiving(lambda _: Reply(410)) as gone, receiving() as new:
        step = handing(handler(gone.url, "concurrency = 1"))
        step.run("crm")
        step.run("crm")
        assert 1 == len(gone.got)
        (row,) = store.run("SELECT * FROM handlers")
        assert ("endpoint-gone", gone.url) == (row["stopped_reason"], row["stopped_target"])
        again = handing(handler(new.url))
        store.due()
        again.run("crm")
    assert {"done": 20} == store.states()
    assert gone.got[0].id in {message.id for message in new.got}


@pytest.mark.parametrize("status", [429, 503])
def test_a_pause_that_is_asked_for_is_kept(store: Store, handing: Handing, status: int) -> None:
    """Nothing is sent before Retry-After, and the attempt does not count."""
    store.change(5)
    with receiving(lambda _: Reply(status, {"retry-after": "30"})) as app:
        step = handing(handler(app.url, "concurrency = 1"))
        step.run("crm")
        step.run("crm")
    assert 1 == len(app.got)
    (row,) = store.run("SELECT open_until - now() > interval '25 seconds' AS pauses FROM handlers")
    assert row["pauses"]
    (waiting,) = store.run("SELECT * FROM handovers WHERE state = 'waiting'")
    assert (0, True) == (waiting["attempts"], waiting["error_reason"] == "slow-down")


def test_a_handler_that_is_down_is_only_tried_now_and_then(store: Store, handing: Handing) -> None:
    """After five failures in a row one message at a time is tried; success closes the circuit."""
    store.change(100)
    status = [500]
    with receiving(lambda _: Reply(status[0])) as app:
        step = handing(handler(app.url, "concurrency = 2"))
        step.run("crm")
        tried = len(app.got)
        assert 5 <= tried <= 7
        step.run("crm")
        assert tried == len(app.got)
        store.run("UPDATE handlers SET open_until = NULL")
        step.run("crm")
        assert tried + 1 == len(app.got)
        status[0] = 204
        store.due()
        step.run("crm")
    assert {"done": 100} == store.states()


def test_outcomes_are_counted_by_handler(store: Store, handing: Handing) -> None:
    """Handed over, tried again, parked, removed, gone."""
    store.change(4)
    replies = {1: Reply(204), 2: Reply(500), 3: Reply(410)}
    with receiving(lambda message: replies[message.data["seq"]]) as app:
        step = handing(PATIENT + "max_attempts = 2\n" + handler(app.url, "concurrency = 1", name="counted"))
        step.run("counted")
        store.run("DELETE FROM changes WHERE seq = 4")
        store.run("UPDATE handlers SET stopped_reason = NULL")
        replies[3] = Reply(204)
        store.due()
        step.run("counted")

    def count(outcome: str) -> float | None:
        return REGISTRY.get_sample_value("penstock_handovers_total", {"handler": "counted", "outcome": outcome})

    assert {"done": 2, "parked": 1, "discarded": 1} == store.states()
    expected = {"ok": 2, "retried": 1, "parked": 1, "removed": 1, "gone": 1}
    assert expected == {outcome: count(outcome) for outcome in expected}


def test_messages_that_fail_together_open_the_circuit_no_longer(store: Store, handing: Handing) -> None:
    """Twenty under way at once when the application goes down are one sign, not twenty."""
    store.change(20)
    # one after the other, so that each is settled by itself
    with receiving(lambda message: Reply(500, wait=0.1 + 0.03 * message.data["seq"])) as app:
        handing(PATIENT + handler(app.url, "concurrency = 20")).run("crm")
    (row,) = store.run("SELECT failures, open_until - now() < interval '2 seconds' AS short FROM handlers")
    assert (True, True) == (5 <= row["failures"] <= 6, row["short"])


def test_a_handler_that_is_not_in_the_settings_any_more_keeps_its_changes(store: Store, handing: Handing) -> None:
    """They wait, also the new ones; when it is back it gets all of them."""
    store.change(5)
    with receiving(lambda _: Reply(500)) as app:
        handing(handler(app.url, "concurrency = 5")).run("crm")
    with receiving() as app:
        without = handing()
        store.due()
        assert "there is no handler crm here" == without.run("crm")
        store.change(5)
        back = handing(handler(app.url))
        store.due()
        back.run("crm")
    assert {"done": 10} == store.states()
