"""The tables, as SQLAlchemy Core knows them. The migrations create them; a test holds the two together."""

from sqlalchemy import (
    REAL,
    BigInteger,
    Boolean,
    CheckConstraint,
    Column,
    DateTime,
    Identity,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    Sequence,
    SmallInteger,
    Table,
    Text,
    Uuid,
    text,
)
from sqlalchemy.dialects.postgresql import ARRAY, JSON, JSONB

from shared.store import lifecycle


metadata = MetaData()

EVENT_STATES = lifecycle.EVENT_STATES
FETCH_STATES = lifecycle.FETCH_STATES
HANDOVER_STATES = ("pending", "running", "waiting", "done", "parked", "discarded")

_OPEN = "state IN ('pending', 'waiting')"
_UNFINISHED = "state IN ('pending', 'running', 'waiting')"
_HELD = "state = 'waiting' AND error_reason = 'circuit'"
_DEAD_LETTERS = "state IN ('parked', 'failed') AND discarded_at IS NULL"
_TO_PLAN = "state = 'received' AND claimed_by IS NULL"

# What an index holds is cut: what comes from outside may be longer than an index takes, and the row must still go in.
FIRST_TYPE = "left(event_types[1], 100)"
SECOND_TYPE = "left(event_types[2], 100)"
ERROR_WORDS = "to_tsvector('simple', (error_reason || ' ') || left(coalesce(error_detail, ''), 2000))"
"""The words of an event's error, as people search for them: not stemmed, as they are slugs, paths and numbers too."""
CALLED_ENTITY = "left(substring(path, '[^/=]+$'), 100)"
"""What a call is about, as far as its path says: the id at its end."""
NAMED_BLOB = "left(data ->> 'blob', 300)"
"""The blob that a record names, as far as an index takes it."""


def _one_of(states: tuple[str, ...]) -> str:
    return "state IN ({})".format(", ".join(f"'{state}'" for state in states))


def _at(name: str, *, nullable: bool = True, default: str | None = None) -> Column[object]:
    return Column(name, DateTime(timezone=True), nullable=nullable, server_default=text(default) if default else None)


claims = Sequence("claims", metadata=metadata)
"""Numbers claims: the token that refuses a late finisher, and the order in which API calls began."""

worker_processes = Table(
    "worker_processes",
    metadata,
    Column("id", Uuid, primary_key=True),
    Column("name", Text, nullable=False),
    _at("beat_at", nullable=False, default="now()"),
    _at("failing_since"),
    Column("error", Text),
    comment="Who holds leases: a row a process, renewed by its beat; ten seconds after the last one its claims lapse",
)

lapses = Table(
    "lapses",
    metadata,
    Column("id", BigInteger, Identity(always=True), primary_key=True),
    Column("worker", Uuid, nullable=False),
    Column("event_id", Uuid),
    Column("fetch_id", BigInteger),
    Column("counted", Boolean, nullable=False),
    _at("at", nullable=False, default="now()"),
    Index("lapses_of_worker", "worker"),
    Index("lapses_at", "at"),
    comment="What became suspect, or counted a death, when a lease lapsed: taken back if its process beats again",
)

relay_duties = Table(
    "relay_duties",
    metadata,
    Column("duty", Text, primary_key=True),
    _at("succeeded_at", nullable=False),
    _at("told_at", nullable=False, default="now()"),
    Column("patience_seconds", REAL, nullable=False),
    Column("error", Text),
    comment="When each duty of relays last succeeded, how old that may become, and what it has failed with since",
)

events = Table(
    "events",
    metadata,
    Column("id", Uuid, primary_key=True),
    Column("provider", Text, nullable=False),
    Column("account", Text, nullable=False),
    Column("state", Text, nullable=False, server_default="received"),
    _at("received_at", nullable=False, default="now()"),
    _at("finished_at"),
    Column("durability", Text, nullable=False),
    Column("content_type", Text, nullable=False),
    Column("headers", JSONB, nullable=False),
    Column("body", LargeBinary),
    Column("blob", Text),
    Column("body_bytes", BigInteger, nullable=False),
    Column("body_sha256", LargeBinary, nullable=False),
    Column("event_types", ARRAY(Text), nullable=False, server_default="{}"),
    Column("identity", Text),
    Column("duplicate_of", Uuid),
    Column("error_reason", Text),
    Column("error_detail", Text),
    _at("queue_at", nullable=False, default="now() + interval '5 seconds'"),
    Column("claimed_by", Uuid),
    Column("token", BigInteger),
    Column("attempts", Integer, nullable=False, server_default="0"),
    _at("due_at"),
    Column("began", BigInteger, server_default=text("nextval('claims')")),
    Column("suspect", Boolean, nullable=False, server_default="false"),
    Column("deaths", Integer, nullable=False, server_default="0"),
    Column("reconciled", Boolean, nullable=False, server_default="false"),
    Column("background", Boolean, nullable=False, server_default="false"),
    _at("discarded_at"),
    Column("discard_reason", Text),
    CheckConstraint(_one_of(EVENT_STATES), name="events_state"),
    CheckConstraint("discarded_at IS NULL OR state IN ('parked', 'failed')", name="events_discarded"),
    CheckConstraint("body IS NULL OR blob IS NULL", name="events_body_or_blob"),
    Index("events_of_account", "provider", "account", "id"),
    Index(
        "events_ready",
        "provider",
        "account",
        "id",
        postgresql_where=text(f"{_TO_PLAN} AND NOT suspect AND due_at IS NULL"),
    ),
    Index("events_put_off", "due_at", postgresql_where=text("due_at IS NOT NULL")),
    Index("events_suspect", "provider", "id", postgresql_where=text(f"{_TO_PLAN} AND suspect")),
    Index("events_to_queue", "queue_at", postgresql_where=text(_TO_PLAN)),
    Index("events_claimed", "claimed_by", postgresql_where=text("claimed_by IS NOT NULL")),
    Index(
        "events_unfinished",
        "provider",
        "received_at",
        postgresql_where=text("state IN ('received', 'processing', 'waiting')"),
    ),
    Index("events_dead_letters", "provider", "error_reason", "received_at", postgresql_where=text(_DEAD_LETTERS)),
    # For people who search; none of them holds a row that ingress has only just kept, so receiving costs the same.
    Index("events_by_state", "state", "id", postgresql_where=text("state NOT IN ('received', 'processing')")),
    Index("events_of_type", text(f"({FIRST_TYPE})"), "id", postgresql_where=text("event_types <> '{}'")),
    Index("events_of_second_type", text(f"({SECOND_TYPE})"), "id", postgresql_where=text("event_types[2] IS NOT NULL")),
    Index("events_with_error", "id", postgresql_where=text("error_reason IS NOT NULL")),
    Index(
        "events_words",
        text(f"({ERROR_WORDS})"),
        postgresql_using="gin",
        postgresql_where=text("error_reason IS NOT NULL"),
    ),
    Index("events_discarded", "id", postgresql_where=text("discarded_at IS NOT NULL")),
    Index("events_duplicates", "duplicate_of", "id", postgresql_where=text("duplicate_of IS NOT NULL")),
    Index(
        "events_account_removed",
        "provider",
        "account",
        postgresql_where=text("state = 'parked' AND error_reason = 'account-removed'"),
    ),
)

quarantine = Table(
    "quarantine",
    metadata,
    Column("event_id", Uuid, primary_key=True),
    _at("kept_at", nullable=False, default="now()"),
    Column("source", Text, nullable=False),
    Column("cause", Text, nullable=False),
    Column("head", LargeBinary, nullable=False),
    Column("bytes", BigInteger, nullable=False),
    Index("quarantine_age", "kept_at"),
    Index("quarantine_by_source", "source"),
    comment="Refused deliveries, for a day at most; head is sealed: the credentials that authenticate it once more",
)

identities = Table(
    "identities",
    metadata,
    Column("provider", Text, primary_key=True),
    Column("account", Text, primary_key=True),
    Column("identity", Text, primary_key=True),
    Column("event_id", Uuid, nullable=False),
    comment="The first delivery of each identity; the primary key decides, not a look-up",
)

fetches = Table(
    "fetches",
    metadata,
    Column("id", BigInteger, Identity(always=True), primary_key=True),
    Column("provider", Text, nullable=False),
    Column("account", Text, nullable=False),
    Column("resource", LargeBinary, nullable=False),
    Column("path", Text, nullable=False),
    Column("purpose", Text, nullable=False),
    Column("context", JSON, nullable=False),
    Column("pick", Text, nullable=False),
    Column("missing", Text, nullable=False),
    Column("page", Integer, nullable=False),
    Column("completes", Boolean, nullable=False),
    Column("chain_began", BigInteger),
    Column("state", Text, nullable=False, server_default="pending"),
    Column("attempts", Integer, nullable=False, server_default="0"),
    Column("refusals", Integer, nullable=False, server_default="0"),
    Column("status", Integer),
    Column("error_reason", Text),
    Column("error_detail", Text),
    _at("created_at", nullable=False, default="now()"),
    _at("due_at", nullable=False, default="now()"),
    _at("queue_at", nullable=False, default="now() + interval '5 seconds'"),
    _at("began_at"),
    _at("finished_at"),
    Column("claimed_by", Uuid),
    Column("token", BigInteger),
    Column("suspect", Boolean, nullable=False, server_default="false"),
    Column("deaths", Integer, nullable=False, server_default="0"),
    Column("background", Boolean, nullable=False, server_default="false"),
    CheckConstraint(_one_of(FETCH_STATES), name="fetches_state"),
    Index("fetches_held", "provider", "account", "id", postgresql_where=text(_HELD)),
    Index("fetches_open", "resource", unique=True, postgresql_where=text(_OPEN)),
    Index("fetches_running", "resource", unique=True, postgresql_where=text("state = 'running'")),
    Index("fetches_recent", "resource", "began_at"),
    Index("fetches_due", "provider", "account", "due_at", postgresql_where=text(f"{_OPEN} AND NOT suspect")),
    Index("fetches_suspect", "provider", "due_at", postgresql_where=text(f"{_OPEN} AND suspect")),
    Index("fetches_to_queue", "queue_at", postgresql_where=text(_OPEN)),
    Index("fetches_claimed", "claimed_by", postgresql_where=text("claimed_by IS NOT NULL")),
    Index("fetches_of_entity", text(f"({CALLED_ENTITY})"), "id"),
    comment="One GET that events ask for; resource is a digest of provider, account and coalescing key",
)

event_fetches = Table(
    "event_fetches",
    metadata,
    Column("event_id", Uuid, primary_key=True),
    Column("fetch_id", BigInteger, primary_key=True),
    Index("event_fetches_by_fetch", "fetch_id"),
)

settlements = Table(
    "settlements",
    metadata,
    Column("id", BigInteger, Identity(always=True), primary_key=True),
    Column("events", ARRAY(Uuid), nullable=False),
    Column("step", Text),
    Column("detail", Text),
    _at("queued_at", nullable=False, default="now()"),
    comment="Events of a fetch beyond those that its commit settles, a thousand a row: the relay takes row after row",
)

records = Table(
    "records",
    metadata,
    Column("provider", Text, primary_key=True),
    Column("account", Text, primary_key=True),
    Column("kind", Text, primary_key=True),
    Column("external_id", Text, primary_key=True),
    Column("digest", LargeBinary),
    Column("data", JSONB, nullable=False),
    Column("sealed", LargeBinary),
    Column("began", BigInteger, nullable=False),
    _at("fetched_at", nullable=False),
    _at("changed_at", nullable=False),
    _at("deleted_at"),
    Column("event_id", Uuid),
    Index("records_deleted", "provider", "deleted_at", postgresql_where=text("deleted_at IS NOT NULL")),
    Index("records_of_blob", text(f"({NAMED_BLOB})"), postgresql_where=text("data ? 'blob'")),
    comment="The newest known state; sealed holds the private members, of which data has digests",
    # Half of each page is left for the new versions that a refresh without news writes (recording.py).
    postgresql_with={"fillfactor": "50"},
)

changes = Table(
    "changes",
    metadata,
    Column("id", BigInteger, Identity(always=True), primary_key=True),
    Column("seq", BigInteger),
    Column("op", Text, nullable=False),
    Column("provider", Text, nullable=False),
    Column("account", Text, nullable=False),
    Column("kind", Text, nullable=False),
    Column("external_id", Text, nullable=False),
    Column("changed", ARRAY(Text), nullable=False),
    Column("event_id", Uuid),
    _at("at", nullable=False, default="clock_timestamp()"),
    Column("mark", LargeBinary),
    Column("before", JSONB),
    CheckConstraint("op IN ('created', 'updated', 'deleted')", name="changes_op"),
    Index("changes_seq", "seq", unique=True, postgresql_where=text("seq IS NOT NULL")),
    Index("changes_unnumbered", "id", postgresql_where=text("seq IS NULL")),
    # Both without what has no number yet: to number a change rewrites it, and it would be entered twice.
    Index("changes_of_entity", "external_id", "id", postgresql_where=text("seq IS NOT NULL")),
    Index("changes_of_event", "event_id", "id", postgresql_where=text("event_id IS NOT NULL AND seq IS NOT NULL")),
    Index("changes_marked", "mark", postgresql_where=text("mark IS NOT NULL")),
    comment="The change feed; seq is given after the commit, one sequencer at a time, so no reader passes a late entry",
)

change_numbers = Sequence("change_numbers", metadata=metadata)

handlers = Table(
    "handlers",
    metadata,
    Column("name", Text, primary_key=True),
    Column("cursor", BigInteger, nullable=False),
    _at("registered_at", nullable=False, default="now()"),
    _at("woken_at"),
    Column("failures", Integer, nullable=False, server_default="0"),
    _at("open_until"),
    _at("next_at"),
    _at("quiet_until"),
    Column("stopped_reason", Text),
    Column("stopped_detail", Text),
    Column("stopped_target", Text),
    comment="Who is told of changes; cursor is the seq up to which hand-overs were made",
)

handovers = Table(
    "handovers",
    metadata,
    Column("id", BigInteger, Identity(always=True), primary_key=True),
    Column("handler", Text, nullable=False),
    Column("change_id", BigInteger, nullable=False),
    Column("seq", BigInteger, nullable=False),
    Column("lane", BigInteger, nullable=False),
    Column("state", Text, nullable=False, server_default="pending"),
    Column("attempts", Integer, nullable=False, server_default="0"),
    Column("deaths", Integer, nullable=False, server_default="0"),
    Column("status", Integer),
    Column("error_reason", Text),
    Column("error_detail", Text),
    _at("created_at", nullable=False, default="now()"),
    _at("due_at", nullable=False, default="now()"),
    _at("began_at"),
    _at("finished_at"),
    Column("claimed_by", Uuid),
    Column("alone", Boolean, nullable=False, server_default="false"),
    Column("token", BigInteger),
    Column("note", Text),
    CheckConstraint(_one_of(HANDOVER_STATES), name="handovers_state"),
    Index("handovers_once", "handler", "change_id", unique=True),
    Index("handovers_due", "handler", "due_at", "seq", postgresql_where=text(_OPEN)),
    Index("handovers_lane", "handler", "lane", "seq", postgresql_where=text(_UNFINISHED)),
    Index("handovers_running", "handler", "lane", unique=True, postgresql_where=text("state = 'running'")),
    Index("handovers_by_state", "handler", "state", "seq"),
    Index("handovers_of_change", "change_id"),
    comment="One change for one handler; lane is a digest of the record: of a lane one runs at a time, in order of seq",
)

replays = Table(
    "replays",
    metadata,
    Column("id", BigInteger, Identity(always=True), primary_key=True),
    Column("what", Text, nullable=False),
    Column("asked", JSONB, nullable=False),
    _at("since"),
    _at("until", nullable=False),
    Column("reason", Text, nullable=False),
    Column("who", Text, nullable=False),
    Column("position", JSONB),
    Column("counts", JSONB, nullable=False, server_default="{}"),
    _at("began_at", nullable=False, default="now()"),
    _at("moved_at", nullable=False, default="now()"),
    _at("finished_at"),
    CheckConstraint("what IN ('events', 'handovers')", name="replays_what"),
    Index("replays_unfinished", "what", "id", postgresql_where=text("finished_at IS NULL")),
    comment="What operators asked to be done again: who, why, which (asked: as typed), and how far it has come",
)

once_marks = Table(
    "once_marks",
    metadata,
    Column("mark", LargeBinary, primary_key=True),
    Column("record", LargeBinary, nullable=False),
    Index("once_marks_of_record", "record"),
    comment="Digests of what makes one change, ever, and of its record's key; they outlive the records",
)

answers = Table(
    "answers",
    metadata,
    Column("resource", LargeBinary, primary_key=True),
    Column("provider", Text, nullable=False),
    Column("account", Text, nullable=False),
    Column("kind", Text, nullable=False),
    Column("digest", LargeBinary, nullable=False),
    Column("records", Integer, nullable=False),
    Column("external_ids", Text, nullable=False),
    Column("states", LargeBinary, nullable=False),
    _at("seen_at", nullable=False, default="now()"),
    Index("answers_of_account", "provider", "account", "seen_at"),
    comment="The last large answer of each call by its digest, with the records it held: the same needs no reading",
)

installation = Table(
    "installation",
    metadata,
    Column("single", Boolean, primary_key=True, server_default="true"),
    Column("key", LargeBinary, nullable=False),
    Column("rotated_to", LargeBinary),
    CheckConstraint("single", name="installation_single"),
    comment="Made with the tables and kept for ever: the ids of changes are made with this key",
)

known_accounts = Table(
    "known_accounts",
    metadata,
    Column("provider", Text, primary_key=True),
    Column("account", Text, primary_key=True),
    _at("known_since", nullable=False, default="now()"),
    _at("removed_at"),
    comment="Accounts that were in force once, by name: one that no settings name was lost until it is removed",
)

settings_trouble = Table(
    "settings_trouble",
    metadata,
    Column("single", Boolean, primary_key=True, server_default="true"),
    Column("said", Text, nullable=False),
    _at("since", nullable=False, default="now()"),
    CheckConstraint("single", name="settings_trouble_single"),
    comment="What the relay says of its settings while they are not in force as the file has them; no row: they are",
)

data_keys = Table(
    "data_keys",
    metadata,
    Column("id", LargeBinary, primary_key=True),
    Column("number", BigInteger, Identity(always=True), nullable=False),
    Column("provider", Text, nullable=False),
    Column("account", Text, nullable=False),
    Column("wrapped", LargeBinary, nullable=False),
    Column("uses", BigInteger, nullable=False, server_default="0"),
    _at("made_at", nullable=False, default="now()"),
    _at("retired_at"),
    Index("data_keys_current", "provider", "account", unique=True, postgresql_where=text("retired_at IS NULL")),
    comment="What bodies, blobs and records of an account are sealed with, wrapped by a master key; uses are reserved",
)

timeline = Table(
    "timeline",
    metadata,
    Column("id", BigInteger, Identity(always=True), primary_key=True),
    Column("event_id", Uuid, nullable=False),
    _at("at", nullable=False, default="clock_timestamp()"),
    Column("step", Text, nullable=False),
    Column("detail", Text, nullable=False),
    Index("timeline_of_event", "event_id", "id"),
)

tallies = Table(
    "tallies",
    metadata,
    Column("id", BigInteger, Identity(always=True), primary_key=True),
    Column("provider", Text, nullable=False),
    Column("what", Text, nullable=False),
    Column("state", Text, nullable=False),
    Column("delta", BigInteger, nullable=False),
    comment="Counts by state as a ledger of differences, folded by the relay: counting never scans finished rows",
)

blobs = Table(
    "blobs",
    metadata,
    Column("key", Text, primary_key=True),
    Column("provider", Text, nullable=False),
    Column("account", Text, nullable=False),
    Column("sealed_for", Uuid, nullable=False),
    _at("put_at"),
    _at("look_at", default="now()"),
    Column("let_go", Boolean, nullable=False, server_default="false"),
    Column("found", Boolean, nullable=False, server_default="false"),
    Index("blobs_to_look_at", "look_at", postgresql_where=text("look_at IS NOT NULL")),
    Index("blobs_of_event", "sealed_for"),
    Index("blobs_of_account", "provider", "account", "key"),
    comment="Objects of the blob store: each from before it is put until after it is removed, large bodies once let go",
)

retention = Table(
    "retention",
    metadata,
    Column("provider", Text, primary_key=True),
    Column("account", Text, primary_key=True),
    Column("what", Text, primary_key=True),
    Column("position", Text, nullable=False, server_default=""),
    Column("removed", BigInteger, nullable=False, server_default="0"),
    _at("round_at", nullable=False, default="now()"),
    _at("moved_at", nullable=False, default="now()"),
    _at("before_at"),
    Column("listed", BigInteger, nullable=False, server_default="0"),
    Column("refused", Text),
    _at("refused_before"),
    _at("allowed_before"),
    comment="How far the removal of what is old has come in its present round, and how much it removed in all",
)

reconciliations = Table(
    "reconciliations",
    metadata,
    Column("id", BigInteger, Identity(always=True), primary_key=True),
    Column("provider", Text, nullable=False),
    Column("account", Text, nullable=False),
    _at("since"),
    Column("dry_run", Boolean, nullable=False),
    Column("position", JSONB, nullable=False, server_default="{}"),
    Column("looked_at", BigInteger, nullable=False, server_default="0"),
    Column("missing", BigInteger, nullable=False, server_default="0"),
    Column("differing", BigInteger, nullable=False, server_default="0"),
    Column("repaired", BigInteger, nullable=False, server_default="0"),
    _at("began_at", nullable=False, default="now()"),
    _at("moved_at", nullable=False, default="now()"),
    _at("finished_at"),
    Index("reconciliations_of_account", "provider", "account", "id"),
    comment="One walk over what a provider holds, and how far it has come: it goes on where it stopped",
)

reconciliation_sights = Table(
    "reconciliation_sights",
    metadata,
    Column("reconciliation", BigInteger, primary_key=True),
    Column("kind", Text, primary_key=True),
    Column("external_id", Text, primary_key=True),
    Column("members", JSONB, nullable=False),
    comment="What a walk has seen in a complete list, until it ends: a record that is not here may be gone",
)

rhythms = Table(
    "rhythms",
    metadata,
    Column("provider", Text, primary_key=True),
    Column("account", Text, primary_key=True),
    Column("spans", ARRAY(REAL), nullable=False),
    Column("weeks", ARRAY(SmallInteger), nullable=False),
    _at("hour", nullable=False),
    Column("in_hour", SmallInteger, nullable=False),
    Column("whole", Boolean, nullable=False),
    _at("looked_at", nullable=False),
    _at("last_event_at"),
    Column("warned", Boolean, nullable=False, server_default="false"),
    comment="When an account usually speaks: spans of five minutes with an event, by hour of the week (UTC)",
)

registrations = Table(
    "registrations",
    metadata,
    Column("provider", Text, primary_key=True),
    Column("account", Text, primary_key=True),
    Column("id", Text, primary_key=True),
    Column("failures", BigInteger, nullable=False),
    Column("disabled", Boolean, nullable=False),
    _at("looked_at", nullable=False, default="now()"),
    comment="Webhooks as they were registered at a provider when last looked at: whether failures grow",
)
