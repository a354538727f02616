"""An event is put off by itself, knows when it was observed, and is settled apart where very many share a fetch.

Revision ID: 0003
"""

from alembic import op


revision = "0003"
down_revision = "0002"

_TO_PLAN = "state = 'received' AND claimed_by IS NULL AND NOT suspect"

STATEMENTS = (
    "ALTER TABLE events ADD attempts INTEGER DEFAULT 0 NOT NULL",
    "ALTER TABLE events ADD due_at TIMESTAMP WITH TIME ZONE",
    # Only what comes from now on draws a number: with a default ADD would write the whole table, and number the past.
    "ALTER TABLE events ADD began BIGINT",
    "ALTER TABLE events ALTER began SET DEFAULT nextval('claims')",
    # Until now a body counted as of its planning: what was not planned yet goes on so.
    "UPDATE events SET began = nextval('claims') WHERE state = 'received'",
    # Whoever may keep events draws their numbers, also before `penstock roles` is run again.
    """
    DO $$ DECLARE role name; BEGIN
        FOR role IN
            SELECT DISTINCT grantee FROM information_schema.role_table_grants
            WHERE table_schema = current_schema() AND table_name = 'events' AND privilege_type = 'INSERT'
              AND grantee <> 'PUBLIC'
        LOOP
            EXECUTE format('GRANT USAGE ON SEQUENCE claims TO %I', role);
        END LOOP;
    END $$
    """,
    # How often the API refused one thing (403, 404), apart from all other attempts at it.
    "ALTER TABLE fetches ADD refusals INTEGER DEFAULT 0 NOT NULL",
    # An index without what is put off: a claim steps over none of it, however much of it there is.
    f"CREATE INDEX events_ready ON events (provider, account, id) WHERE {_TO_PLAN} AND due_at IS NULL",
    "DROP INDEX events_to_plan",
    "CREATE INDEX events_put_off ON events (due_at) WHERE due_at IS NOT NULL",
    """
    CREATE TABLE settlements (
        id BIGINT GENERATED ALWAYS AS IDENTITY,
        events UUID[] NOT NULL,
        step TEXT,
        detail TEXT,
        queued_at TIMESTAMP WITH TIME ZONE DEFAULT now() NOT NULL,
        PRIMARY KEY (id)
    )
    """,
    """
    COMMENT ON TABLE settlements
    IS 'Events of a fetch beyond those that its commit settles, a thousand a row: the relay takes row after row'
    """,
)


def upgrade() -> None:
    for statement in STATEMENTS:
        op.execute(statement)


def downgrade() -> None:
    op.execute("DROP TABLE settlements")
    op.execute("DROP INDEX events_ready")
    op.execute(f"CREATE INDEX events_to_plan ON events (provider, account, id) WHERE {_TO_PLAN}")
    for column in ("attempts", "due_at", "began"):
        op.execute(f"ALTER TABLE events DROP {column}")
    op.execute("ALTER TABLE fetches DROP refusals")
