"""Blobs have a row each: what nobody names any more is found and removed, also after a process that died.

Revision ID: 0006
"""

from alembic import op
from sqlalchemy import text


revision = "0006"
down_revision = "0005"

STATEMENTS = (
    """
    CREATE TABLE blobs (
        key TEXT NOT NULL,
        provider TEXT NOT NULL,
        account TEXT NOT NULL,
        sealed_for UUID NOT NULL,
        put_at TIMESTAMP WITH TIME ZONE,
        look_at TIMESTAMP WITH TIME ZONE DEFAULT now(),
        let_go BOOLEAN DEFAULT 'false' NOT NULL,
        found BOOLEAN DEFAULT 'false' NOT NULL,
        PRIMARY KEY (key)
    )
    """,
    "CREATE INDEX blobs_to_look_at ON blobs (look_at) WHERE look_at IS NOT NULL",
    "CREATE INDEX blobs_of_event ON blobs (sealed_for)",
    "CREATE INDEX blobs_of_account ON blobs (provider, account, key)",
    """
    COMMENT ON TABLE blobs
    IS 'Objects of the blob store: each from before it is put until after it is removed, large bodies once let go'
    """,
    "CREATE INDEX records_of_blob ON records (left(data ->> 'blob', 300)) WHERE data ? 'blob'",
    "ALTER TABLE retention ADD before_at TIMESTAMP WITH TIME ZONE",
    "ALTER TABLE retention ADD listed BIGINT DEFAULT '0' NOT NULL",
    "ALTER TABLE retention ADD refused TEXT",
    "ALTER TABLE retention ADD refused_before TIMESTAMP WITH TIME ZONE",
    "ALTER TABLE retention ADD allowed_before TIMESTAMP WITH TIME ZONE",
    # Whatever removes a row, its blobs are to be looked at. With the owner's rights: who removes a row of theirs may
    # be a process of the version before, whose role knows nothing of this table.
    """
    CREATE FUNCTION blobs_of_events_are_let_go() RETURNS trigger LANGUAGE plpgsql
    SECURITY DEFINER SET search_path = {schema}, pg_temp AS $$
    BEGIN
        INSERT INTO blobs (key, provider, account, sealed_for)
        SELECT blob, provider, account, id FROM gone WHERE blob IS NOT NULL ORDER BY blob
        ON CONFLICT (key) DO UPDATE SET look_at = greatest(blobs.look_at, now());
        UPDATE blobs SET look_at = greatest(look_at, now()) WHERE sealed_for = ANY(ARRAY(SELECT id FROM gone));
        RETURN NULL;
    END $$
    """,
    """
    CREATE TRIGGER events_let_go AFTER DELETE ON events
    REFERENCING OLD TABLE AS gone FOR EACH STATEMENT EXECUTE FUNCTION blobs_of_events_are_let_go()
    """,
    """
    CREATE FUNCTION a_body_is_let_go() RETURNS trigger LANGUAGE plpgsql
    SECURITY DEFINER SET search_path = {schema}, pg_temp AS $$
    BEGIN
        INSERT INTO blobs (key, provider, account, sealed_for) VALUES (OLD.blob, OLD.provider, OLD.account, OLD.id)
        ON CONFLICT (key) DO UPDATE SET look_at = greatest(blobs.look_at, now());
        RETURN NULL;
    END $$
    """,
    """
    CREATE TRIGGER events_let_go_of_body AFTER UPDATE OF blob ON events FOR EACH ROW
    WHEN (OLD.blob IS NOT NULL AND OLD.blob IS DISTINCT FROM NEW.blob) EXECUTE FUNCTION a_body_is_let_go()
    """,
    """
    CREATE FUNCTION a_blob_of_a_record_is_let_go() RETURNS trigger LANGUAGE plpgsql
    SECURITY DEFINER SET search_path = {schema}, pg_temp AS $$
    BEGIN
        UPDATE blobs SET look_at = greatest(look_at, now()) WHERE key = OLD.data ->> 'blob';
        RETURN NULL;
    END $$
    """,
    """
    CREATE TRIGGER records_let_go AFTER DELETE ON records FOR EACH ROW
    WHEN (OLD.data ? 'blob') EXECUTE FUNCTION a_blob_of_a_record_is_let_go()
    """,
    """
    CREATE TRIGGER records_let_go_of_blob AFTER UPDATE OF data ON records FOR EACH ROW
    WHEN (OLD.data ? 'blob' AND OLD.data -> 'blob' IS DISTINCT FROM NEW.data -> 'blob')
    EXECUTE FUNCTION a_blob_of_a_record_is_let_go()
    """,
)


def upgrade() -> None:
    schema = op.get_bind().execute(text("SELECT quote_ident(current_schema())")).scalar_one()
    for statement in STATEMENTS:
        op.execute(statement.replace("{schema}", schema))


def downgrade() -> None:
    for trigger, table in (
        ("records_let_go_of_blob", "records"),
        ("records_let_go", "records"),
        ("events_let_go_of_body", "events"),
        ("events_let_go", "events"),
    ):
        op.execute(f"DROP TRIGGER {trigger} ON {table}")
    for function in ("a_blob_of_a_record_is_let_go", "a_body_is_let_go", "blobs_of_events_are_let_go"):
        op.execute(f"DROP FUNCTION {function}()")
    for column in ("before_at", "listed", "refused", "refused_before", "allowed_before"):
        op.execute(f"ALTER TABLE retention DROP {column}")
    op.execute("DROP INDEX records_of_blob")
    op.execute("DROP TABLE blobs")
