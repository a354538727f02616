"""Whatever goes wrong with one hand-over is its own verdict: its neighbours end as they would have."""

from collections.abc import Callable, Iterator, Mapping, Sequence

import asyncpg
import orjson
import pytest
from structlog.testing import capture_logs

from handlers.conftest import PATIENT, Configure, Store, handler
from handlers.receiving import Message, Receiver, Reply, receiving
from penstock import Change, on
from shared import errors
from shared.handlers.settings import Handler
from shared.sealing import BrokenSeal
from shared.store.handovers.handing_over import ClaimedHandover
from workers.calling import NoAnswer
from workers.hand_over.delivering import HandingOver
from workers.hand_over.opener import Opener
from workers.hand_over.posting import Poster, Response


FAULTS = [
    errors.PenstockError("a fault"),
    errors.SettingsError("a setting is wrong"),
    errors.StoreAway("a store is away"),
    errors.NotAuthentic("not the sender"),
    errors.Unreadable("wrong-shape", "not to be read"),
    errors.AnswerError("no answer"),
    errors.BrokenAnswer("cut"),
    errors.RefusedAnswer(409, "refused"),
    BrokenSeal("altered"),
    KeyError("status"),
    TimeoutError(),
    asyncpg.DataError("invalid byte sequence"),
    asyncpg.PostgresConnectionError("cut"),
    OSError("broken pipe"),
    RecursionError("too deep"),
    MemoryError(),
    UnicodeEncodeError("utf-8", "\ud800", 0, 1, "surrogates not allowed"),
    ValueError("NUL \0 and half a pair \ud800"),
]


@pytest.fixture(autouse=True)
def _quiet() -> Iterator[None]:
    """Forty tracebacks, each with its local variables, would take most of the time."""
    with capture_logs():
        yield


RECORDS = 2 * len(FAULTS)
"""Every second one has a fault of its own; those between show that nobody else is harmed."""

AGAIN = "max_attempts = 2\n"


def fault_of(record: str) -> Exception | None:
    """What goes wrong with this record; None: nothing does."""
    number = int(record or "0")
    return None if number % 2 else FAULTS[number // 2 - 1]


def is_away(error: Exception | None) -> bool:
    """Whether it says nothing of the hand-over."""
    return isinstance(error, errors.StoreAway)


class FailingOpener(Opener):
    """Opens every second record."""

    async def open(self, claimed: ClaimedHandover) -> ClaimedHandover:
        """Or raise."""
        if claimed.change and (error := fault_of(claimed.change.external_id)):
            raise error
        return await super().open(claimed)


class FailingPoster(Poster):
    """Sends every second message."""

    def __init__(self, error: Exception | None = None) -> None:
        super().__init__()
        self._error = error

    async def post(self, handler: Handler, headers: Mapping[str, str], body: bytes) -> Response:
        """Or raise, the same for each where that was given."""
        if error := fault_of(orjson.loads(body)["data"]["external_id"]):
            raise self._error or error
        return await super().post(handler, headers, body)


def ended(store: Store, app: Receiver | None = None) -> Mapping[str, asyncpg.Record]:
    """The hand-overs of bad records, after a look at the others: each was handed over, once."""
    rows = {
        row["external_id"]: row
        for row in store.run("SELECT h.*, c.external_id FROM handovers h JOIN changes c ON c.id = h.change_id")
    }
    good = [row for record, row in rows.items() if int(record) % 2]
    assert {("done", 204 if app else None, 1, None)} == {
        (row["state"], row["status"], row["attempts"], row["error_detail"]) for row in good
    }
    if app:
        sent = [message.data["external_id"] for message in app.got if int(message.data["external_id"]) % 2]
        assert len(set(sent)) == len(sent) == len(good)
    return {record: row for record, row in rows.items() if not int(record) % 2}


def hand_over(step: HandingOver, name: str, store: Store) -> None:
    """Run the task until every good record had its turn: a task has its time, which a slow machine may need."""
    step.run(name)
    while store.run(
        """
        SELECT FROM changes c LEFT JOIN handovers h ON h.change_id = c.id AND h.handler = $1
        WHERE c.external_id ~ '[13579]$' AND h.state IS DISTINCT FROM 'done'
        """,
        name,
    ):
        step.run(name)


@pytest.mark.parametrize("where", ["opening", "posting"])
def test_a_fault_of_one_message_is_its_own(configured: Configure, store: Store, where: str) -> None:
    """It waits, with a reason and its attempts; not counted where a store is away. In the end it is parked."""
    store.change(RECORDS)
    with receiving() as app:
        process = configured(PATIENT + AGAIN + handler(app.url))
        if where == "opening":
            step = HandingOver(process, opener=FailingOpener(process))
        else:
            step = HandingOver(process, poster=FailingPoster())
        hand_over(step, "crm", store)
        first = ended(store, app)
        store.due()
        while store.states().get("parked", 0) < len([error for error in FAULTS if not is_away(error)]):
            step.run("crm")
        second = ended(store, app)
        step.close()
    for record, row in first.items():
        error = fault_of(record)
        away = is_away(error)
        reason = "store-away" if away else "sealed" if isinstance(error, BrokenSeal) else "fault"
        assert ("waiting", reason, 0 if away else 1) == (row["state"], row["error_reason"], row["attempts"])
        assert row["error_detail"].startswith(type(error).__name__)
        assert ("waiting" if away else "parked") == second[record]["state"]


def test_no_answer_is_one_s_own(configured: Configure, store: Store) -> None:
    """Whatever its sentence holds."""
    store.change(4)
    with receiving() as app:
        process = configured(PATIENT + handler(app.url))
        step = HandingOver(process, poster=FailingPoster(NoAnswer("bad status line 'HTTP\0\ud800'")))
        hand_over(step, "crm", store)
        bad = ended(store, app)
        step.close()
    assert {("no-answer", "bad status line 'HTTP\ufffd\ufffd'")} == {
        (row["error_reason"], row["error_detail"]) for row in bad.values()
    }


def test_a_fault_before_a_function_is_called_is_its_own(configured: Configure, store: Store) -> None:
    """The function gets the others."""
    got: list[str] = []
    store.change(RECORDS)
    on(name="keep", start="beginning")(lambda change: got.append(change.external_id))
    process = configured(PATIENT)
    hand_over(HandingOver(process, FailingOpener(process)), "keep", store)
    assert {"waiting"} == {row["state"] for row in ended(store).values()}
    assert RECORDS // 2 == len(got)
    assert not any(map(fault_of, got))


def test_a_fault_that_a_function_raises_is_its_own(configured: Configure, store: Store) -> None:
    """Also one of our classes: they mean nothing there."""

    def keep(change: Change) -> None:
        if error := fault_of(change.external_id):
            raise error

    store.change(RECORDS)
    on(name="keep", start="beginning")(keep)
    hand_over(HandingOver(configured(PATIENT)), "keep", store)
    assert {("waiting", "handler-raised", 1)} == {
        (row["state"], row["error_reason"], row["attempts"]) for row in ended(store).values()
    }


@pytest.mark.parametrize("how", ["by HTTP", "a function"])
def test_a_record_that_cannot_be_put_into_a_message_is_its_own(configured: Configure, store: Store, how: str) -> None:
    """An integer of 5,000 digits, an exponent of a thousand, an id without a letter: the others arrive."""
    store.change(7)
    for record, data in (("2", "9" * 5000), ("4", "1e1000")):
        text = f'{{"id": 7, "balance": {data}}}'
        store.run("UPDATE records SET data = $1::text::jsonb WHERE external_id = $2", text, record)
    store.run("UPDATE changes SET external_id = '' WHERE external_id = '6'")
    got: list[str] = []
    on("magicline.customer", name="keep", start="beginning")(lambda change: got.append(change.external_id))
    with receiving() as app:
        step = HandingOver(configured(PATIENT + handler(app.url)))
        hand_over(step, "crm" if how == "by HTTP" else "keep", store)
        step.close()
        # Read as text: such numbers are too large for the parser.
        got += [
            part.split(b'"')[0].decode() for message in app.got for part in message.body.split(b'"external_id":"')[1:]
        ]
    assert {"1", "3", "5", "7"} <= set(got)
    assert len(set(got)) == len(got)
    assert {} == {state: count for state, count in store.states().items() if state in {"running", "pending"}}


def refuse(store: Store, codes: Sequence[str], *, when: str, once: bool = False) -> None:
    """Have Postgres raise one of these errors when what came of a hand-over is stored, ``once`` each or always.

    ``when`` may name ``record``, the number of its record.
    """
    store.run("CREATE SEQUENCE tries MINVALUE 0")
    place = "nextval('tries')::int + 1" if once else f"record / 2 % {len(codes)} + 1"
    store.run(
        f"""
        CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$
        DECLARE
            record integer := (SELECT external_id::integer FROM changes WHERE id = NEW.change_id);
            code text;
        BEGIN
            IF {when} THEN
                code := ('{{{",".join(codes)}}}'::text[])[{place}];
                IF code IS NOT NULL THEN RAISE EXCEPTION 'no' USING ERRCODE = code; END IF;
            END IF;
            RETURN NEW;
        END $$
        """  # noqa: S608 - put together from constants
    )
    store.run(
        """
        CREATE TRIGGER refuse BEFORE UPDATE ON handovers FOR EACH ROW
        WHEN (OLD.state = 'running' AND NEW.state NOT IN ('running', 'pending')) EXECUTE FUNCTION refuse()
        """
    )


ABOUT_A_ROW = ("22001", "22021", "22P05", "23514", "23502", "54000", "54001", "P0001", "44000", "21000", "27000")


def every_second_fails(message: Message) -> Reply:
    """As its record has it."""
    return Reply(204 if int(message.data["external_id"]) % 2 else 500)


@pytest.mark.parametrize("reply", [lambda _: Reply(), every_second_fails], ids=["all taken", "some refused"])
def test_a_result_that_cannot_be_stored_leaves_the_others_stored(
    configured: Configure, store: Store, reply: Callable[[Message], Reply]
) -> None:
    """And they are not sent again, though it is."""
    store.change(2 * len(ABOUT_A_ROW))
    refuse(store, ABOUT_A_ROW, when="record % 2 = 0")
    with receiving(reply) as app:
        step = HandingOver(configured(PATIENT + handler(app.url)))
        hand_over(step, "crm", store)
        store.due()
        step.run("crm")
        bad = ended(store, app)
        step.close()
    assert {"running", "pending"} >= {row["state"] for row in bad.values()}
    assert len(ABOUT_A_ROW) == len(bad)


def test_a_result_that_cannot_be_stored_with_what_it_says_is_stored_without(
    configured: Configure, store: Store
) -> None:
    """What was delivered stays delivered, though its status is at fault; what failed waits as it would have."""
    store.change(8)
    refuse(store, ["22003"], when="NEW.status IS NOT NULL AND record IN (2, 4)")
    with receiving(lambda message: Reply(500 if message.data["external_id"] == "4" else 204)) as app:
        step = HandingOver(configured(PATIENT + handler(app.url)))
        hand_over(step, "crm", store)
        step.run("crm")
        bad = ended(store, app)
        step.close()
    assert ["done", "waiting"] == [bad[record]["state"] for record in "24"]
    assert 8 == len(app.got)
    assert all("what came of it could not be stored" in bad[record]["error_detail"] for record in "24")


def test_where_postgres_is_at_fault_nothing_is_sent_twice(configured: Configure, store: Store) -> None:
    """All wait until it is back, and are stored then as they came in."""
    codes = ["40001", "40P01", "42501", "53100", "57014", "XX000"]
    store.change(10)
    refuse(store, codes, when="true", once=True)
    with receiving() as app:
        step = HandingOver(configured(PATIENT + handler(app.url)))
        while store.states().get("done") != 10:
            step.run("crm")
        step.close()
    assert {"done": 10} == store.states()
    assert 10 == len(app.got)
    assert store.run("SELECT last_value FROM tries")[0][0] >= len(codes)


def test_a_claim_that_fails_gives_up_nothing_that_is_under_way(configured: Configure, store: Store) -> None:
    """The answers of what was sent are stored; the task ends with the fault afterwards."""
    store.change(6)

    def reply(message: Message) -> Reply:
        if message.data["external_id"] != "3":
            return Reply(wait=0.5)
        store.run("ALTER TABLE handovers RENAME COLUMN alone TO moved")
        return Reply()

    with receiving(reply) as app:
        step = HandingOver(configured(PATIENT + handler(app.url, "concurrency = 6")))
        with pytest.raises(asyncpg.UndefinedColumnError):
            step.run("crm")
        step.close()
    assert {"done": 6} == store.states()
    assert 6 == len(app.got)
