"""The tables as of the first release, and the triggers that keep the tallies.

Revision ID: 0001
"""

from alembic import op


revision = "0001"
down_revision = None

# A trigger sees each statement's rows as sets, so a batch of 50 events costs one or two tally rows, in the same
# transaction as the state they count: https://www.postgresql.org/docs/18/sql-createtrigger.html
STATEMENTS = (
    "CREATE SEQUENCE claims",
    "CREATE SEQUENCE change_numbers",
    """
    CREATE TABLE worker_processes (
        id UUID NOT NULL,
        name TEXT NOT NULL,
        beat_at TIMESTAMP WITH TIME ZONE DEFAULT now() NOT NULL,
        PRIMARY KEY (id)
    )
    """,
    """
    COMMENT ON TABLE worker_processes
    IS 'Who holds leases: a row a process, renewed by its beat; ten seconds after the last one its claims lapse'
    """,
    """
    CREATE TABLE events (
        id UUID NOT NULL,
        provider TEXT NOT NULL,
        account TEXT NOT NULL,
        state TEXT DEFAULT 'received' NOT NULL,
        received_at TIMESTAMP WITH TIME ZONE DEFAULT now() NOT NULL,
        finished_at TIMESTAMP WITH TIME ZONE,
        durability TEXT NOT NULL,
        content_type TEXT NOT NULL,
        headers JSONB NOT NULL,
        body BYTEA,
        blob TEXT,
        body_bytes BIGINT NOT NULL,
        body_sha256 BYTEA NOT NULL,
        event_types TEXT[] DEFAULT '{}' NOT NULL,
        identity TEXT,
        duplicate_of UUID,
        error_reason TEXT,
        error_detail TEXT,
        queue_at TIMESTAMP WITH TIME ZONE DEFAULT now() + interval '5 seconds' NOT NULL,
        claimed_by UUID,
        token BIGINT,
        suspect BOOLEAN DEFAULT 'false' NOT NULL,
        deaths INTEGER DEFAULT '0' NOT NULL,
        reconciled BOOLEAN DEFAULT 'false' NOT NULL,
        background BOOLEAN DEFAULT 'false' NOT NULL,
        discarded_at TIMESTAMP WITH TIME ZONE,
        discard_reason TEXT,
        PRIMARY KEY (id),
        CONSTRAINT events_state CHECK (
            state IN ('received', 'processing', 'waiting', 'done', 'duplicate', 'parked', 'failed', 'quarantined')),
        CONSTRAINT events_discarded CHECK (discarded_at IS NULL OR state IN ('parked', 'failed')),
        CONSTRAINT events_body_or_blob CHECK (body IS NULL OR blob IS NULL)
    )
    """,
    "CREATE INDEX events_claimed ON events (claimed_by) WHERE claimed_by IS NOT NULL",
    """
    CREATE INDEX events_dead_letters ON events (provider, error_reason, received_at)
    WHERE state IN ('parked', 'failed') AND discarded_at IS NULL
    """,
    "CREATE INDEX events_by_state ON events (state, id) WHERE state NOT IN ('received', 'processing')",
    "CREATE INDEX events_of_type ON events ((left(event_types[1], 100)), id) WHERE event_types <> '{}'",
    """
    CREATE INDEX events_of_second_type ON events ((left(event_types[2], 100)), id) WHERE event_types[2] IS NOT NULL
    """,
    "CREATE INDEX events_with_error ON events (id) WHERE error_reason IS NOT NULL",
    """
    CREATE INDEX events_words ON events
    USING gin ((to_tsvector('simple', error_reason || ' ' || left(coalesce(error_detail, ''), 2000))))
    WHERE error_reason IS NOT NULL
    """,
    "CREATE INDEX events_discarded ON events (id) WHERE discarded_at IS NOT NULL",
    "CREATE INDEX events_duplicates ON events (duplicate_of, id) WHERE duplicate_of IS NOT NULL",
    "CREATE INDEX events_of_account ON events (provider, account, id)",
    """
    CREATE INDEX events_account_removed ON events (provider, account)
    WHERE state = 'parked' AND error_reason = 'account-removed'
    """,
    """
    CREATE INDEX events_to_plan ON events (provider, account, id)
    WHERE state = 'received' AND claimed_by IS NULL AND NOT suspect
    """,
    "CREATE INDEX events_suspect ON events (provider, id) WHERE state = 'received' AND claimed_by IS NULL AND suspect",
    "CREATE INDEX events_to_queue ON events (queue_at) WHERE state = 'received' AND claimed_by IS NULL",
    """
    CREATE INDEX events_unfinished ON events (provider, received_at)
    WHERE state IN ('received', 'processing', 'waiting')
    """,
    """
    CREATE TABLE quarantine (
        event_id UUID NOT NULL,
        kept_at TIMESTAMP WITH TIME ZONE DEFAULT now() NOT NULL,
        source TEXT NOT NULL,
        cause TEXT NOT NULL,
        head BYTEA NOT NULL,
        bytes BIGINT NOT NULL,
        PRIMARY KEY (event_id)
    )
    """,
    """
    COMMENT ON TABLE quarantine IS
    'Refused deliveries, for a day at most; head is sealed: the credentials that authenticate it once more'
    """,
    "CREATE INDEX quarantine_age ON quarantine (kept_at)",
    "CREATE INDEX quarantine_by_source ON quarantine (source)",
    """
    CREATE TABLE identities (
        provider TEXT NOT NULL,
        account TEXT NOT NULL,
        identity TEXT NOT NULL,
        event_id UUID NOT NULL,
        PRIMARY KEY (provider, account, identity)
    )
    """,
    """
    COMMENT ON TABLE identities
    IS 'The first delivery of each identity; the primary key decides, not a look-up'
    """,
    """
    CREATE TABLE fetches (
        id BIGINT GENERATED ALWAYS AS IDENTITY,
        provider TEXT NOT NULL,
        account TEXT NOT NULL,
        resource BYTEA NOT NULL,
        path TEXT NOT NULL,
        purpose TEXT NOT NULL,
        context JSON NOT NULL,
        pick TEXT NOT NULL,
        missing TEXT NOT NULL,
        page INTEGER NOT NULL,
        completes BOOLEAN NOT NULL,
        chain_began BIGINT,
        state TEXT DEFAULT 'pending' NOT NULL,
        attempts INTEGER DEFAULT '0' NOT NULL,
        status INTEGER,
        error_reason TEXT,
        error_detail TEXT,
        created_at TIMESTAMP WITH TIME ZONE DEFAULT now() NOT NULL,
        due_at TIMESTAMP WITH TIME ZONE DEFAULT now() NOT NULL,
        queue_at TIMESTAMP WITH TIME ZONE DEFAULT now() + interval '5 seconds' NOT NULL,
        began_at TIMESTAMP WITH TIME ZONE,
        finished_at TIMESTAMP WITH TIME ZONE,
        claimed_by UUID,
        token BIGINT,
        suspect BOOLEAN DEFAULT 'false' NOT NULL,
        deaths INTEGER DEFAULT '0' NOT NULL,
        background BOOLEAN DEFAULT 'false' NOT NULL,
        PRIMARY KEY (id),
        CONSTRAINT fetches_state CHECK (state IN ('pending', 'running', 'waiting', 'done', 'failed'))
    )
    """,
    """
    COMMENT ON TABLE fetches
    IS 'One GET that events ask for; resource is a digest of provider, account and coalescing key'
    """,
    "CREATE INDEX fetches_claimed ON fetches (claimed_by) WHERE claimed_by IS NOT NULL",
    "CREATE INDEX fetches_of_entity ON fetches ((left(substring(path from '[^/=]+$'), 100)), id)",
    """
    CREATE INDEX fetches_due ON fetches (provider, account, due_at)
    WHERE state IN ('pending', 'waiting') AND NOT suspect
    """,
    "CREATE INDEX fetches_suspect ON fetches (provider, due_at) WHERE state IN ('pending', 'waiting') AND suspect",
    """
    CREATE INDEX fetches_held ON fetches (provider, account, id)
    WHERE state = 'waiting' AND error_reason = 'circuit'
    """,
    "CREATE UNIQUE INDEX fetches_open ON fetches (resource) WHERE state IN ('pending', 'waiting')",
    "CREATE INDEX fetches_recent ON fetches (resource, began_at)",
    "CREATE UNIQUE INDEX fetches_running ON fetches (resource) WHERE state = 'running'",
    "CREATE INDEX fetches_to_queue ON fetches (queue_at) WHERE state IN ('pending', 'waiting')",
    """
    CREATE TABLE event_fetches (
        event_id UUID NOT NULL,
        fetch_id BIGINT NOT NULL,
        PRIMARY KEY (event_id, fetch_id)
    )
    """,
    "CREATE INDEX event_fetches_by_fetch ON event_fetches (fetch_id)",
    """
    CREATE TABLE records (
        provider TEXT NOT NULL,
        account TEXT NOT NULL,
        kind TEXT NOT NULL,
        external_id TEXT NOT NULL,
        digest BYTEA,
        data JSONB NOT NULL,
        sealed BYTEA,
        began BIGINT NOT NULL,
        fetched_at TIMESTAMP WITH TIME ZONE NOT NULL,
        changed_at TIMESTAMP WITH TIME ZONE NOT NULL,
        deleted_at TIMESTAMP WITH TIME ZONE,
        event_id UUID,
        PRIMARY KEY (provider, account, kind, external_id)
    ) WITH (fillfactor = 50)
    """,
    """
    COMMENT ON TABLE records
    IS 'The newest known state; sealed holds the private members, of which data has digests'
    """,
    "CREATE INDEX records_deleted ON records (provider, deleted_at) WHERE deleted_at IS NOT NULL",
    """
    CREATE TABLE changes (
        id BIGINT GENERATED ALWAYS AS IDENTITY,
        seq BIGINT,
        op TEXT NOT NULL,
        provider TEXT NOT NULL,
        account TEXT NOT NULL,
        kind TEXT NOT NULL,
        external_id TEXT NOT NULL,
        changed TEXT[] NOT NULL,
        event_id UUID,
        at TIMESTAMP WITH TIME ZONE DEFAULT clock_timestamp() NOT NULL,
        mark BYTEA,
        before JSONB,
        PRIMARY KEY (id),
        CONSTRAINT changes_op CHECK (op IN ('created', 'updated', 'deleted'))
    )
    """,
    """
    COMMENT ON TABLE changes
    IS 'The change feed; seq is given after the commit, one sequencer at a time, so no reader passes a late entry'
    """,
    "CREATE UNIQUE INDEX changes_seq ON changes (seq) WHERE seq IS NOT NULL",
    "CREATE INDEX changes_unnumbered ON changes (id) WHERE seq IS NULL",
    "CREATE INDEX changes_of_entity ON changes (external_id, id) WHERE seq IS NOT NULL",
    "CREATE INDEX changes_of_event ON changes (event_id, id) WHERE event_id IS NOT NULL AND seq IS NOT NULL",
    "CREATE INDEX changes_marked ON changes (mark) WHERE mark IS NOT NULL",
    """
    CREATE TABLE handlers (
        name TEXT NOT NULL,
        cursor BIGINT NOT NULL,
        registered_at TIMESTAMP WITH TIME ZONE DEFAULT now() NOT NULL,
        woken_at TIMESTAMP WITH TIME ZONE,
        failures INTEGER DEFAULT '0' NOT NULL,
        open_until TIMESTAMP WITH TIME ZONE,
        next_at TIMESTAMP WITH TIME ZONE,
        quiet_until TIMESTAMP WITH TIME ZONE,
        stopped_reason TEXT,
        stopped_detail TEXT,
        stopped_target TEXT,
        PRIMARY KEY (name)
    )
    """,
    """
    COMMENT ON TABLE handlers
    IS 'Who is told of changes; cursor is the seq up to which hand-overs were made'
    """,
    """
    CREATE TABLE handovers (
        id BIGINT GENERATED ALWAYS AS IDENTITY,
        handler TEXT NOT NULL,
        change_id BIGINT NOT NULL,
        seq BIGINT NOT NULL,
        lane BIGINT NOT NULL,
        state TEXT DEFAULT 'pending' NOT NULL,
        attempts INTEGER DEFAULT '0' NOT NULL,
        deaths INTEGER DEFAULT '0' NOT NULL,
        status INTEGER,
        error_reason TEXT,
        error_detail TEXT,
        created_at TIMESTAMP WITH TIME ZONE DEFAULT now() NOT NULL,
        due_at TIMESTAMP WITH TIME ZONE DEFAULT now() NOT NULL,
        began_at TIMESTAMP WITH TIME ZONE,
        finished_at TIMESTAMP WITH TIME ZONE,
        claimed_by UUID,
        alone BOOLEAN DEFAULT 'false' NOT NULL,
        token BIGINT,
        note TEXT,
        PRIMARY KEY (id),
        CONSTRAINT handovers_state CHECK (state IN ('pending', 'running', 'waiting', 'done', 'parked', 'discarded'))
    )
    """,
    """
    COMMENT ON TABLE handovers
    IS 'One change for one handler; lane is a digest of the record: of a lane one runs at a time, in order of seq'
    """,
    "CREATE UNIQUE INDEX handovers_once ON handovers (handler, change_id)",
    "CREATE INDEX handovers_due ON handovers (handler, due_at, seq) WHERE state IN ('pending', 'waiting')",
    "CREATE INDEX handovers_lane ON handovers (handler, lane, seq) WHERE state IN ('pending', 'running', 'waiting')",
    "CREATE UNIQUE INDEX handovers_running ON handovers (handler, lane) WHERE state = 'running'",
    "CREATE INDEX handovers_by_state ON handovers (handler, state, seq)",
    "CREATE INDEX handovers_of_change ON handovers (change_id)",
    """
    CREATE TABLE replays (
        id BIGINT GENERATED ALWAYS AS IDENTITY,
        what TEXT NOT NULL,
        asked JSONB NOT NULL,
        since TIMESTAMP WITH TIME ZONE,
        until TIMESTAMP WITH TIME ZONE NOT NULL,
        reason TEXT NOT NULL,
        who TEXT NOT NULL,
        position JSONB,
        counts JSONB DEFAULT '{}' NOT NULL,
        began_at TIMESTAMP WITH TIME ZONE DEFAULT now() NOT NULL,
        moved_at TIMESTAMP WITH TIME ZONE DEFAULT now() NOT NULL,
        finished_at TIMESTAMP WITH TIME ZONE,
        PRIMARY KEY (id),
        CONSTRAINT replays_what CHECK (what IN ('events', 'handovers'))
    )
    """,
    "CREATE INDEX replays_unfinished ON replays (what, id) WHERE finished_at IS NULL",
    """
    COMMENT ON TABLE replays
    IS 'What operators asked to be done again: who, why, which (asked: as typed), and how far it has come'
    """,
    "CREATE TABLE once_marks (mark BYTEA NOT NULL, record BYTEA NOT NULL, PRIMARY KEY (mark))",
    "CREATE INDEX once_marks_of_record ON once_marks (record)",
    """
    COMMENT ON TABLE once_marks
    IS 'Digests of what makes one change, ever, and of its record''s key; they outlive the records'
    """,
    """
    CREATE TABLE installation (
        single BOOLEAN DEFAULT 'true' NOT NULL,
        key BYTEA NOT NULL,
        rotated_to BYTEA,
        PRIMARY KEY (single),
        CONSTRAINT installation_single CHECK (single)
    )
    """,
    """
    COMMENT ON TABLE installation
    IS 'Made with the tables and kept for ever: the ids of changes are made with this key'
    """,
    # gen_random_uuid draws on the server's strong source; two of them hold 244 random bits
    """
    INSERT INTO installation (key)
    VALUES (sha256(convert_to(gen_random_uuid()::text || gen_random_uuid()::text, 'UTF8')))
    """,
    """
    CREATE TABLE data_keys (
        id BYTEA NOT NULL,
        number BIGINT GENERATED ALWAYS AS IDENTITY,
        provider TEXT NOT NULL,
        account TEXT NOT NULL,
        wrapped BYTEA NOT NULL,
        uses BIGINT DEFAULT '0' NOT NULL,
        made_at TIMESTAMP WITH TIME ZONE DEFAULT now() NOT NULL,
        retired_at TIMESTAMP WITH TIME ZONE,
        PRIMARY KEY (id)
    )
    """,
    "CREATE UNIQUE INDEX data_keys_current ON data_keys (provider, account) WHERE retired_at IS NULL",
    """
    COMMENT ON TABLE data_keys
    IS 'What bodies, blobs and records of an account are sealed with, wrapped by a master key; uses are reserved'
    """,
    """
    CREATE TABLE timeline (
        id BIGINT GENERATED ALWAYS AS IDENTITY,
        event_id UUID NOT NULL,
        at TIMESTAMP WITH TIME ZONE DEFAULT clock_timestamp() NOT NULL,
        step TEXT NOT NULL,
        detail TEXT NOT NULL,
        PRIMARY KEY (id)
    )
    """,
    "CREATE INDEX timeline_of_event ON timeline (event_id, id)",
    """
    CREATE TABLE tallies (
        id BIGINT GENERATED ALWAYS AS IDENTITY,
        provider TEXT NOT NULL,
        what TEXT NOT NULL,
        state TEXT NOT NULL,
        delta BIGINT NOT NULL,
        PRIMARY KEY (id)
    )
    """,
    """
    COMMENT ON TABLE tallies
    IS 'Counts by state as a ledger of differences, folded by the relay: counting never scans finished rows'
    """,
    """
    CREATE TABLE retention (
        provider TEXT NOT NULL,
        account TEXT NOT NULL,
        what TEXT NOT NULL,
        position TEXT DEFAULT '' NOT NULL,
        removed BIGINT DEFAULT '0' NOT NULL,
        round_at TIMESTAMP WITH TIME ZONE DEFAULT now() NOT NULL,
        moved_at TIMESTAMP WITH TIME ZONE DEFAULT now() NOT NULL,
        PRIMARY KEY (provider, account, what)
    )
    """,
    """
    COMMENT ON TABLE retention
    IS 'How far the removal of what is old has come in its present round, and how much it removed in all'
    """,
    """
    CREATE TABLE reconciliations (
        id BIGINT GENERATED ALWAYS AS IDENTITY,
        provider TEXT NOT NULL,
        account TEXT NOT NULL,
        since TIMESTAMP WITH TIME ZONE,
        dry_run BOOLEAN NOT NULL,
        position JSONB DEFAULT '{}' NOT NULL,
        looked_at BIGINT DEFAULT '0' NOT NULL,
        missing BIGINT DEFAULT '0' NOT NULL,
        differing BIGINT DEFAULT '0' NOT NULL,
        repaired BIGINT DEFAULT '0' NOT NULL,
        began_at TIMESTAMP WITH TIME ZONE DEFAULT now() NOT NULL,
        moved_at TIMESTAMP WITH TIME ZONE DEFAULT now() NOT NULL,
        finished_at TIMESTAMP WITH TIME ZONE,
        PRIMARY KEY (id)
    )
    """,
    "CREATE INDEX reconciliations_of_account ON reconciliations (provider, account, id)",
    """
    COMMENT ON TABLE reconciliations
    IS 'One walk over what a provider holds, and how far it has come: it goes on where it stopped'
    """,
    """
    CREATE TABLE reconciliation_sights (
        reconciliation BIGINT NOT NULL,
        kind TEXT NOT NULL,
        external_id TEXT NOT NULL,
        members JSONB NOT NULL,
        PRIMARY KEY (reconciliation, kind, external_id)
    )
    """,
    """
    COMMENT ON TABLE reconciliation_sights
    IS 'What a walk has seen in a complete list, until it ends: a record that is not here may be gone'
    """,
    """
    CREATE TABLE rhythms (
        provider TEXT NOT NULL,
        account TEXT NOT NULL,
        spans REAL[] NOT NULL,
        weeks SMALLINT[] NOT NULL,
        hour TIMESTAMP WITH TIME ZONE NOT NULL,
        in_hour SMALLINT NOT NULL,
        whole BOOLEAN NOT NULL,
        looked_at TIMESTAMP WITH TIME ZONE NOT NULL,
        last_event_at TIMESTAMP WITH TIME ZONE,
        warned BOOLEAN DEFAULT 'false' NOT NULL,
        PRIMARY KEY (provider, account)
    )
    """,
    """
    COMMENT ON TABLE rhythms
    IS 'When an account usually speaks: spans of five minutes with an event, by hour of the week (UTC)'
    """,
    """
    CREATE TABLE registrations (
        provider TEXT NOT NULL,
        account TEXT NOT NULL,
        id TEXT NOT NULL,
        failures BIGINT NOT NULL,
        disabled BOOLEAN NOT NULL,
        looked_at TIMESTAMP WITH TIME ZONE DEFAULT now() NOT NULL,
        PRIMARY KEY (provider, account, id)
    )
    """,
    """
    COMMENT ON TABLE registrations
    IS 'Webhooks as they were registered at a provider when last looked at: whether failures grow'
    """,
    """
    CREATE FUNCTION tally_events() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN
        IF TG_OP = 'INSERT' THEN
            INSERT INTO tallies (provider, what, state, delta)
            SELECT provider, 'event', state, count(*) FROM arrived GROUP BY provider, state;
        ELSIF TG_OP = 'DELETE' THEN
            INSERT INTO tallies (provider, what, state, delta)
            SELECT provider, 'event', state, -count(*) FROM gone GROUP BY provider, state;
        ELSE
            INSERT INTO tallies (provider, what, state, delta)
            SELECT provider, 'event', state, sum(delta) FROM (
                SELECT provider, state, 1 AS delta FROM arrived
                UNION ALL
                SELECT provider, state, -1 FROM gone
            ) AS both_sides
            GROUP BY provider, state HAVING sum(delta) <> 0;
        END IF;
        RETURN NULL;
    END $$
    """,
    """
    CREATE TRIGGER tally_events_insert AFTER INSERT ON events
    REFERENCING NEW TABLE AS arrived FOR EACH STATEMENT EXECUTE FUNCTION tally_events()
    """,
    """
    CREATE TRIGGER tally_events_update AFTER UPDATE ON events
    REFERENCING NEW TABLE AS arrived OLD TABLE AS gone FOR EACH STATEMENT EXECUTE FUNCTION tally_events()
    """,
    """
    CREATE TRIGGER tally_events_delete AFTER DELETE ON events
    REFERENCING OLD TABLE AS gone FOR EACH STATEMENT EXECUTE FUNCTION tally_events()
    """,
    """
    CREATE FUNCTION tally_fetches() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN
        IF TG_OP = 'INSERT' THEN
            INSERT INTO tallies (provider, what, state, delta)
            SELECT provider, 'fetch', state, count(*) FROM arrived GROUP BY provider, state;
        ELSIF TG_OP = 'DELETE' THEN
            INSERT INTO tallies (provider, what, state, delta)
            SELECT provider, 'fetch', state, -count(*) FROM gone GROUP BY provider, state;
        ELSE
            INSERT INTO tallies (provider, what, state, delta)
            SELECT provider, 'fetch', state, sum(delta) FROM (
                SELECT provider, state, 1 AS delta FROM arrived
                UNION ALL
                SELECT provider, state, -1 FROM gone
            ) AS both_sides
            GROUP BY provider, state HAVING sum(delta) <> 0;
        END IF;
        RETURN NULL;
    END $$
    """,
    """
    CREATE TRIGGER tally_fetches_insert AFTER INSERT ON fetches
    REFERENCING NEW TABLE AS arrived FOR EACH STATEMENT EXECUTE FUNCTION tally_fetches()
    """,
    """
    CREATE TRIGGER tally_fetches_update AFTER UPDATE ON fetches
    REFERENCING NEW TABLE AS arrived OLD TABLE AS gone FOR EACH STATEMENT EXECUTE FUNCTION tally_fetches()
    """,
    """
    CREATE TRIGGER tally_fetches_delete AFTER DELETE ON fetches
    REFERENCING OLD TABLE AS gone FOR EACH STATEMENT EXECUTE FUNCTION tally_fetches()
    """,
    # What shared/store/lifecycle.py says. Only a wrong step calls the function: a right one costs a comparison.
    """
    CREATE FUNCTION refuse_step() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN
        RAISE EXCEPTION '%: no step leads from % to %', TG_TABLE_NAME, OLD.state, NEW.state
        USING ERRCODE = 'check_violation';
    END $$
    """,
    """
    CREATE TRIGGER events_lifecycle AFTER UPDATE OF state ON events FOR EACH ROW
    WHEN (OLD.state <> NEW.state AND (OLD.state, NEW.state) NOT IN (
        ('received', 'processing'), ('received', 'waiting'), ('received', 'done'), ('received', 'duplicate'),
        ('received', 'parked'),
        ('processing', 'waiting'), ('processing', 'done'), ('processing', 'parked'), ('processing', 'failed'),
        ('waiting', 'processing'),
        ('done', 'received'),
        ('duplicate', 'received'),
        ('parked', 'received'),
        ('failed', 'received'),
        ('quarantined', 'received')
    )) EXECUTE FUNCTION refuse_step()
    """,
    """
    CREATE TRIGGER fetches_lifecycle AFTER UPDATE OF state ON fetches FOR EACH ROW
    WHEN (OLD.state <> NEW.state AND (OLD.state, NEW.state) NOT IN (
        ('pending', 'running'), ('pending', 'waiting'),
        ('running', 'pending'), ('running', 'waiting'), ('running', 'done'), ('running', 'failed'),
        ('waiting', 'running')
    )) EXECUTE FUNCTION refuse_step()
    """,
)


def upgrade() -> None:
    for statement in STATEMENTS:
        op.execute(statement)


def downgrade() -> None:
    op.execute("DROP SCHEMA public CASCADE")
    op.execute("CREATE SCHEMA public")
