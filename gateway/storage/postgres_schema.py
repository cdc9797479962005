"""The schema of `migrations` for PostgreSQL. A released migration never changes; add one.

It uses a separate PostgreSQL schema, so that the database can hold other data. Column names and
their order are those of SQLite: `gateway/storage/postgres.py` runs the same statements on both.
"""

from typing import Final

NAME: Final = "llava_gateway"
QUOTA, FULL = "GW001", "GW002"  # SQLSTATEs that the trigger of `usage` raises

_PARENTS: Final = ("files", "batches", "responses")
_CHILDREN: Final = {  # table: its parent, the key to it, and the columns whose bytes count
    "file_chunks": ("files", "file_id", ("data",)),
    "batch_lines": ("batches", "batch_id", ("custom_id", "request", "result")),
    "response_items": ("responses", "response_id", ("id", "item")),
    "response_images": ("responses", "response_id", ("url",)),
}
_CONTENT: Final = {"files": "filename", "batches": "state", "responses": "body"}
_CHANGING: Final = {"batches": "state", "responses": "body", "batch_lines": "request, result"}
ROW_BYTES: Final = 500  # size of a row without its contents, index entries included


def _size(row: str, columns: tuple[str, ...]) -> str:
    """Return SQL for the maximum size of a row; long contents are compressed."""
    lengths = [f"coalesce(octet_length({row}.{column}), 0)" for column in columns]
    return f"{ROW_BYTES} + {' + '.join(lengths)}"


def _function(name: str, body: str) -> str:
    return f"""
    CREATE FUNCTION {name}() RETURNS trigger LANGUAGE plpgsql AS $body$ BEGIN {body} RETURN NULL; END $body$;
    """


def _trigger(name: str, event: str, table: str, body: str) -> str:
    return f"""
    {_function(name, body)}
    CREATE TRIGGER {name} AFTER {event} ON {table} FOR EACH ROW EXECUTE FUNCTION {name}();
    """


def _count_parent(table: str) -> str:
    size = _size("NEW", (_CONTENT[table],))
    return "".join(
        (
            _trigger(
                f"{table}_added",
                "INSERT",
                table,
                f"INSERT INTO usage VALUES (NEW.caller, 0) ON CONFLICT DO NOTHING;"
                f" UPDATE {table} SET stored = {size} WHERE id = NEW.id;",
            ),
            _trigger(
                f"{table}_grown",
                "UPDATE OF stored",
                table,
                "UPDATE usage SET bytes = bytes + NEW.stored - OLD.stored WHERE caller = NEW.caller;",
            ),
            _trigger(
                f"{table}_deleted",
                "DELETE",
                table,
                "UPDATE usage SET bytes = bytes - OLD.stored WHERE caller = OLD.caller;"
                " DELETE FROM usage WHERE caller = OLD.caller AND bytes <= 0;",
            ),
            _count_changes(table, table, "id", (_CONTENT[table],)),
        )
    )


def _count_child(table: str) -> str:
    parent, key, columns = _CHILDREN[table]
    added, gone = _size("NEW", columns), _size("OLD", columns)
    return "".join(
        (
            _trigger(
                f"{table}_added",
                "INSERT",
                table,
                f"UPDATE {parent} SET stored = stored + {added} WHERE id = NEW.{key};",
            ),
            _trigger(
                f"{table}_deleted",
                "DELETE",
                table,
                f"UPDATE {parent} SET stored = stored - ({gone}) WHERE id = OLD.{key};",
            ),
            _count_changes(table, parent, key, columns),
        )
    )


def _count_changes(table: str, parent: str, key: str, columns: tuple[str, ...]) -> str:
    if table not in _CHANGING:
        return ""
    added, gone = _size("NEW", columns), _size("OLD", columns)
    return _trigger(
        f"{table}_changed",
        f"UPDATE OF {_CHANGING[table]}",
        table,
        f"UPDATE {parent} SET stored = stored + ({added}) - ({gone}) WHERE id = NEW.{key};",
    )


# Tables of a gateway's session. Writes of other sessions are not limited.
SESSION: Final = """
    CREATE TEMP TABLE beyond_quota (one INTEGER);
    CREATE TEMP TABLE limits (max_bytes BIGINT, max_bytes_per_caller BIGINT);
"""

_LIMIT: Final = f"""
    IF NEW.bytes > OLD.bytes AND to_regclass('pg_temp.limits') IS NOT NULL THEN
        IF NOT EXISTS (SELECT 1 FROM pg_temp.beyond_quota)
            AND NEW.bytes > (SELECT max_bytes_per_caller FROM pg_temp.limits) THEN
            RAISE EXCEPTION 'quota' USING ERRCODE = '{QUOTA}';
        END IF;
        IF (SELECT sum(bytes) FROM usage) > (SELECT max_bytes FROM pg_temp.limits) THEN
            RAISE EXCEPTION 'full' USING ERRCODE = '{FULL}';
        END IF;
    END IF;
"""

MIGRATIONS: Final = (
    f"""
    -- SQLite's `total`: the sum, or 0 without rows.
    CREATE AGGREGATE total(BIGINT) (SFUNC = int8pl, STYPE = BIGINT, INITCOND = '0');
    CREATE TABLE usage (caller TEXT PRIMARY KEY, bytes BIGINT NOT NULL);
    CREATE TABLE files (
        id TEXT PRIMARY KEY,
        caller TEXT NOT NULL,
        filename TEXT NOT NULL,
        purpose TEXT NOT NULL,
        bytes BIGINT NOT NULL DEFAULT 0,
        complete INTEGER NOT NULL DEFAULT 0,
        created_at BIGINT NOT NULL,
        stored BIGINT NOT NULL DEFAULT 0,
        expires_at BIGINT,
        rowid BIGINT GENERATED ALWAYS AS IDENTITY
    );
    CREATE INDEX files_of_caller ON files (caller, rowid);
    CREATE INDEX files_expire ON files (expires_at) WHERE expires_at IS NOT NULL;
    CREATE TABLE file_chunks (
        file_id TEXT NOT NULL REFERENCES files (id) ON DELETE CASCADE,
        place INTEGER NOT NULL,
        data BYTEA NOT NULL,
        PRIMARY KEY (file_id, place)
    );
    ALTER TABLE file_chunks ALTER data SET STORAGE EXTERNAL;
    CREATE TABLE batches (
        id TEXT PRIMARY KEY,
        caller TEXT NOT NULL,
        status TEXT NOT NULL,
        state BYTEA NOT NULL,
        total BIGINT NOT NULL DEFAULT 0,
        completed BIGINT NOT NULL DEFAULT 0,
        failed BIGINT NOT NULL DEFAULT 0,
        input_tokens BIGINT NOT NULL DEFAULT 0,
        cached_tokens BIGINT NOT NULL DEFAULT 0,
        output_tokens BIGINT NOT NULL DEFAULT 0,
        output_ttl BIGINT NOT NULL,
        stored BIGINT NOT NULL DEFAULT 0,
        expires_at BIGINT,
        rowid BIGINT GENERATED ALWAYS AS IDENTITY
    );
    CREATE INDEX batches_of_caller ON batches (caller, rowid);
    CREATE INDEX batches_expire ON batches (expires_at) WHERE expires_at IS NOT NULL;
    CREATE INDEX batches_open ON batches (status, caller);
    CREATE TABLE batch_lines (
        batch_id TEXT NOT NULL REFERENCES batches (id) ON DELETE CASCADE,
        line INTEGER NOT NULL,
        custom_id TEXT NOT NULL,
        request BYTEA,
        result BYTEA,
        failed BOOLEAN NOT NULL DEFAULT false,
        PRIMARY KEY (batch_id, line),
        UNIQUE (batch_id, custom_id)
    );
    CREATE INDEX batch_lines_to_do ON batch_lines (batch_id, line) WHERE result IS NULL;
    CREATE TABLE responses (
        id TEXT PRIMARY KEY,
        caller TEXT NOT NULL,
        previous_id TEXT,
        body BYTEA NOT NULL,
        stored BIGINT NOT NULL DEFAULT 0,
        expires_at BIGINT NOT NULL
    );
    CREATE INDEX responses_expire ON responses (expires_at);
    CREATE TABLE response_items (
        response_id TEXT NOT NULL REFERENCES responses (id) ON DELETE CASCADE,
        place INTEGER NOT NULL,
        id TEXT NOT NULL,
        is_output BOOLEAN NOT NULL,
        item BYTEA NOT NULL,
        PRIMARY KEY (response_id, place)
    );
    CREATE INDEX response_items_by_id ON response_items (id);
    CREATE TABLE response_images (
        response_id TEXT NOT NULL,
        place INTEGER NOT NULL,
        part INTEGER NOT NULL,
        url BYTEA NOT NULL,
        PRIMARY KEY (response_id, place, part),
        FOREIGN KEY (response_id, place) REFERENCES response_items (response_id, place) ON DELETE CASCADE
    );
    CREATE TABLE batch_attempts (
        batch_id TEXT NOT NULL,
        line INTEGER NOT NULL,
        attempts INTEGER NOT NULL,
        PRIMARY KEY (batch_id, line),
        FOREIGN KEY (batch_id, line) REFERENCES batch_lines (batch_id, line) ON DELETE CASCADE
    );
    {"".join(_count_parent(table) for table in _PARENTS)}
    {"".join(_count_child(table) for table in _CHILDREN)}
    {_trigger("usage_limit", "UPDATE OF bytes", "usage", _LIMIT)}
    """,
)
