"""The schema of the database, as the migrations that lead to it. A released migration never changes; add one.

Each row of a table that clients can name has a `caller`, and each query for a client filters by it.
Times are Unix seconds. Tables in `EXPIRING` have an `expires_at`, after which a row is deleted.
"""

from collections.abc import Callable
from typing import Final

EXPIRING: Final = ("files", "batches", "responses")

_CHILDREN: Final = {  # the rows below a file, batch or response: their table, its parent and the key to it
    "file_chunks": ("files", "file_id"),
    "batch_lines": ("batches", "batch_id"),
    "response_items": ("responses", "response_id"),
    "response_images": ("responses", "response_id"),
}


def _bytes(column: str) -> str:
    """Return SQL for the bytes of a text column: `length` counts its characters."""
    return f"length(CAST({column} AS BLOB))"


def _row(content: str) -> str:
    """Return SQL for what `content` bytes take in a row: from half a page of 4096 on, two don't share one."""
    return f"max({content}, 4096 * ({content} >= 1950))"


def _entry(content: str) -> str:
    """Return SQL for what `content` bytes take in an index: from a quarter on, most fill a page each."""
    return f"max({content}, 4600 * ({content} >= 900))"


def _line_on_disk(row: str) -> str:
    custom_id = _bytes(f"{row}.custom_id")
    content = f"({custom_id} + ifnull(length({row}.request), 0) + ifnull(length({row}.result), 0))"
    return f"{_row(content)} + {_entry(custom_id)} + 300"


def _item_on_disk(row: str) -> str:
    item_id = _bytes(f"{row}.id")
    return f"{_row(f'({item_id} + length({row}.item))')} + {_entry(item_id)} + 500"


# SQL for what a row takes on the disk, index entries included; tests/storage/test_usage.py measures it.
_ON_DISK: Final[dict[str, Callable[[str], str]]] = {
    "files": lambda row: f"500 + {_bytes(f'{row}.filename')}",
    "batches": lambda row: f"500 + {_row(_bytes(f'{row}.state'))}",
    "responses": lambda row: f"500 + {_row(f'length({row}.body)')}",
    "file_chunks": lambda row: f"{_row(f'length({row}.data)')} + 200",
    "batch_lines": _line_on_disk,
    "response_items": _item_on_disk,
    "response_images": lambda row: f"{_row(f'length({row}.url)')} + 300",
}
_CHANGING: Final = {"batches": "state", "responses": "body", "batch_lines": "request, result"}


def _count_parent(table: str) -> str:
    """Return the triggers that keep `stored` of a table's rows, and `usage` as the sum of it by caller."""
    return f"""
    CREATE TRIGGER {table}_added AFTER INSERT ON {table} BEGIN
        INSERT OR IGNORE INTO usage VALUES (NEW.caller, 0); UPDATE {table}
        SET stored = {_ON_DISK[table]("NEW")} WHERE id = NEW.id; END;
    CREATE TRIGGER {table}_grown AFTER UPDATE OF stored ON {table} BEGIN
        UPDATE usage SET bytes = bytes + NEW.stored - OLD.stored WHERE caller = NEW.caller; END;
    CREATE TRIGGER {table}_deleted AFTER DELETE ON {table} BEGIN
        UPDATE usage SET bytes = bytes - OLD.stored WHERE caller = OLD.caller; DELETE FROM usage
        WHERE caller = OLD.caller AND bytes <= 0; END;
    {_count_changes(table, table, "id")}
    """


def _count_children(table: str) -> str:
    """Return the triggers that add a table's rows to the `stored` of their parents."""
    size, (parent, key) = _ON_DISK[table], _CHILDREN[table]
    return f"""
    CREATE TRIGGER {table}_added AFTER INSERT ON {table} BEGIN
        UPDATE {parent} SET stored = stored + {size("NEW")} WHERE id = NEW.{key}; END;
    CREATE TRIGGER {table}_deleted AFTER DELETE ON {table} BEGIN
        UPDATE {parent} SET stored = stored - ({size("OLD")}) WHERE id = OLD.{key}; END;
    {_count_changes(table, parent, key)}
    """


def _count_changes(table: str, parent: str, key: str) -> str:
    if table not in _CHANGING:
        return ""
    size = _ON_DISK[table]
    return f"""
    CREATE TRIGGER {table}_changed AFTER UPDATE OF {_CHANGING[table]} ON {table} BEGIN
        UPDATE {parent} SET stored = stored + ({size("NEW")}) - ({size("OLD")}) WHERE id = NEW.{key}; END;
    """


MIGRATIONS: Final = (
    f"""
    -- `stored` is what a file, batch or response and its rows take on the disk; `usage` is the sum by caller.
    CREATE TABLE usage (caller TEXT PRIMARY KEY, bytes INTEGER NOT NULL);
    -- A file whose upload has not ended has `complete` 0 and expires soon.
    CREATE TABLE files (
        id TEXT PRIMARY KEY,
        caller TEXT NOT NULL,
        filename TEXT NOT NULL,
        purpose TEXT NOT NULL,
        bytes INTEGER NOT NULL DEFAULT 0,
        complete INTEGER NOT NULL DEFAULT 0,
        created_at INTEGER NOT NULL,
        stored INTEGER NOT NULL DEFAULT 0,
        expires_at INTEGER
    );
    CREATE INDEX files_of_caller ON files (caller);
    CREATE INDEX files_expire ON files (expires_at) WHERE expires_at IS NOT NULL;
    CREATE TABLE file_chunks (
        file_id TEXT NOT NULL REFERENCES files (id) ON DELETE CASCADE,
        place INTEGER NOT NULL,
        data BLOB NOT NULL,
        PRIMARY KEY (file_id, place)
    );
    -- `state` is the batch as the client sees it, in JSON; its status and its counts are in columns.
    CREATE TABLE batches (
        id TEXT PRIMARY KEY,
        caller TEXT NOT NULL,
        status TEXT NOT NULL,
        state TEXT NOT NULL,
        total INTEGER NOT NULL DEFAULT 0,
        completed INTEGER NOT NULL DEFAULT 0,
        failed INTEGER NOT NULL DEFAULT 0,
        input_tokens INTEGER NOT NULL DEFAULT 0,
        cached_tokens INTEGER NOT NULL DEFAULT 0,
        output_tokens INTEGER NOT NULL DEFAULT 0,
        output_ttl INTEGER NOT NULL,
        stored INTEGER NOT NULL DEFAULT 0,
        expires_at INTEGER
    );
    CREATE INDEX batches_of_caller ON batches (caller);
    CREATE INDEX batches_expire ON batches (expires_at) WHERE expires_at IS NOT NULL;
    -- A line has a `request` until it has a `result`, and never both.
    CREATE TABLE batch_lines (
        batch_id TEXT NOT NULL REFERENCES batches (id) ON DELETE CASCADE,
        line INTEGER NOT NULL,
        custom_id TEXT NOT NULL,
        request BLOB,
        result BLOB,
        failed INTEGER NOT NULL DEFAULT 0,
        PRIMARY KEY (batch_id, line),
        UNIQUE (batch_id, custom_id)
    );
    CREATE INDEX batch_lines_to_do ON batch_lines (batch_id, line) WHERE result IS NULL;
    -- `body` is the response as it was answered, in JSON.
    CREATE TABLE responses (
        id TEXT PRIMARY KEY,
        caller TEXT NOT NULL,
        previous_id TEXT,
        body BLOB NOT NULL,
        stored INTEGER NOT NULL DEFAULT 0,
        expires_at INTEGER NOT NULL
    );
    CREATE INDEX responses_expire ON responses (expires_at);
    -- The response's own input and output, in their order. `item` is JSON, without its images.
    CREATE TABLE response_items (
        response_id TEXT NOT NULL REFERENCES responses (id) ON DELETE CASCADE,
        place INTEGER NOT NULL,
        id TEXT NOT NULL,
        is_output INTEGER NOT NULL,
        item BLOB NOT NULL,
        PRIMARY KEY (response_id, place)
    );
    CREATE INDEX response_items_by_id ON response_items (id);
    CREATE TABLE response_images (
        response_id TEXT NOT NULL,
        place INTEGER NOT NULL,
        part INTEGER NOT NULL,
        url BLOB NOT NULL,
        PRIMARY KEY (response_id, place, part),
        FOREIGN KEY (response_id, place) REFERENCES response_items (response_id, place) ON DELETE CASCADE
    );
    -- How often a line without a result was tried. Counted before each try: it may end the process.
    CREATE TABLE batch_attempts (
        batch_id TEXT NOT NULL,
        line INTEGER NOT NULL,
        attempts INTEGER NOT NULL,
        PRIMARY KEY (batch_id, line),
        FOREIGN KEY (batch_id, line) REFERENCES batch_lines (batch_id, line) ON DELETE CASCADE
    ) WITHOUT ROWID;
    -- Answers what is asked every few seconds about unfinished batches, whose `state` may be long.
    CREATE INDEX batches_open ON batches (status, caller, total, completed, failed);
    -- Finds what a killed process left unfinished, at every start.
    CREATE INDEX files_unfinished ON files (id) WHERE complete = 0;
    CREATE INDEX responses_unfinished ON responses (id) WHERE body = x'';
    {"".join(_count_parent(table) for table in EXPIRING)}
    {"".join(_count_children(table) for table in _CHILDREN)}
    """,
)
