"""The schema of the database, as the steps that lead to it. A step that was released never changes; add one.

Every row of a table that clients can name belongs to a `caller`; every query for a client asks for both.
Times are Unix seconds. What has an `expires_at` is deleted after it when its table is in `EXPIRING`.
"""

from collections.abc import Callable
from typing import Final

EXPIRING: Final = ("files", "batches", "responses")

_LINE = "ifnull(length({row}.request), 0) + ifnull(length({row}.result), 0)"  # bytes of a batch's line
_ROWS: Final = {  # what hangs on a file, batch or response: its table, the table above and the key there
    "file_chunks": ("files", "file_id"),
    "batch_lines": ("batches", "batch_id"),
    "response_items": ("responses", "response_id"),
    "response_images": ("responses", "response_id"),
}


def _counted(table: str) -> str:
    """Return the triggers that count the `stored` of a table's rows in `usage`."""
    return f"""
    CREATE TRIGGER {table}_added AFTER INSERT ON {table} BEGIN
        INSERT OR IGNORE INTO usage VALUES (NEW.caller, 0); UPDATE usage
        SET bytes = bytes + NEW.stored WHERE caller = NEW.caller; END;
    CREATE TRIGGER {table}_grown AFTER UPDATE OF stored ON {table} BEGIN
        UPDATE usage SET bytes = bytes + NEW.stored - OLD.stored WHERE caller = NEW.caller; END;
    CREATE TRIGGER {table}_deleted AFTER DELETE ON {table} BEGIN
        UPDATE usage SET bytes = bytes - OLD.stored WHERE caller = OLD.caller; DELETE FROM usage
        WHERE caller = OLD.caller AND bytes <= 0; END;
    """


def _counted_rows(table: str, above: str, key: str, size: str) -> str:
    """Return the triggers that count a table's rows in the `stored` of the row above each.

    `key` names that row; `size` is the bytes of one, in SQL, where `{row}` stands for it.
    """
    return f"""
    CREATE TRIGGER {table}_added AFTER INSERT ON {table} BEGIN
        UPDATE {above} SET stored = stored + {size.format(row="NEW")} + 100
        WHERE id = NEW.{key}; END;
    CREATE TRIGGER {table}_deleted AFTER DELETE ON {table} BEGIN
        UPDATE {above} SET stored = stored - ({size.format(row="OLD")}) - 100
        WHERE id = OLD.{key}; END;
    """


def _bytes(column: str) -> str:
    """Return the bytes of a column of text, in SQL: `length` counts its characters."""
    return f"length(CAST({column} AS BLOB))"


def _row(content: str) -> str:
    """Return what `content` bytes take in a row, in SQL: from half a page of 4096 on, two don't share one."""
    return f"max({content}, 4096 * ({content} >= 1950))"


def _entry(content: str) -> str:
    """Return what `content` bytes take in an index: from a quarter on, most are on a page of their own."""
    return f"max({content}, 4600 * ({content} >= 900))"


def _line_on_disk(row: str) -> str:
    custom_id = _bytes(f"{row}.custom_id")
    return f"{_row(f'({custom_id} + {_LINE.format(row=row)})')} + {_entry(custom_id)} + 300"


def _item_on_disk(row: str) -> str:
    item_id = _bytes(f"{row}.id")
    return f"{_row(f'({item_id} + length({row}.item))')} + {_entry(item_id)} + 500"


# What a row takes on the disk, with its entries in indexes, in SQL; tests/storage/test_usage.py measures it.
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


def _count_again(table: str) -> str:
    """Return what sets `stored` of every row of a table to what it and the rows below it take."""
    below = "".join(
        f"\n        + (SELECT total({_ON_DISK[name](name)}) FROM {name} WHERE {key} = {table}.id)"
        for name, (above, key) in _ROWS.items()
        if above == table
    )
    return f"UPDATE {table} SET stored = {_ON_DISK[table](table)}{below};"


def _counted_on_disk(table: str) -> str:
    """Return the triggers that count what the rows of a table take in `usage`, by their `stored`."""
    return f"""
    CREATE TRIGGER {table}_added AFTER INSERT ON {table} BEGIN
        INSERT OR IGNORE INTO usage VALUES (NEW.caller, 0); UPDATE usage
        SET bytes = bytes + NEW.stored WHERE caller = NEW.caller; UPDATE {table}
        SET stored = {_ON_DISK[table]("NEW")} WHERE id = NEW.id; END;
    {_counted_changes(table, table, "id")}
    """


def _counted_on_disk_below(table: str) -> str:
    """Return the triggers that count what the rows of a table take in the `stored` of the rows above them."""
    size, (above, key) = _ON_DISK[table], _ROWS[table]
    return f"""
    CREATE TRIGGER {table}_added AFTER INSERT ON {table} BEGIN
        UPDATE {above} SET stored = stored + {size("NEW")} WHERE id = NEW.{key}; END;
    CREATE TRIGGER {table}_deleted AFTER DELETE ON {table} BEGIN
        UPDATE {above} SET stored = stored - ({size("OLD")}) WHERE id = OLD.{key}; END;
    {_counted_changes(table, above, key)}
    """


def _counted_changes(table: str, above: str, key: str) -> str:
    if table not in _CHANGING:
        return ""
    size = _ON_DISK[table]
    return f"""
    CREATE TRIGGER {table}_changed AFTER UPDATE OF {_CHANGING[table]} ON {table} BEGIN
        UPDATE {above} SET stored = stored + ({size("NEW")}) - ({size("OLD")}) WHERE id = NEW.{key}; END;
    """


STEPS: Final = (
    """
    -- A file whose upload has not ended has `complete` 0 and expires soon.
    CREATE TABLE files (
        id TEXT PRIMARY KEY,
        caller TEXT NOT NULL,
        filename TEXT NOT NULL,
        purpose TEXT NOT NULL,
        bytes INTEGER NOT NULL DEFAULT 0,
        complete INTEGER NOT NULL DEFAULT 0,
        created_at INTEGER NOT NULL,
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
        expires_at INTEGER
    );
    CREATE INDEX batches_of_caller ON batches (caller);
    CREATE INDEX batches_by_status ON batches (status);
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
    """,
    """
    -- `body` is the response as it was answered, in JSON.
    CREATE TABLE responses (
        id TEXT PRIMARY KEY,
        caller TEXT NOT NULL,
        previous_id TEXT,
        body BLOB NOT NULL,
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
    """,
    f"""
    -- How much each caller has stored: the content of its rows, 1000 bytes for each file, batch and response,
    -- and 100 for each row below one. `stored` is the part of one of them.
    CREATE TABLE usage (caller TEXT PRIMARY KEY, bytes INTEGER NOT NULL);
    ALTER TABLE files ADD COLUMN stored INTEGER NOT NULL DEFAULT 1000;
    UPDATE files SET stored = stored
        + (SELECT total(length(data) + 100) FROM file_chunks WHERE file_id = files.id);
    ALTER TABLE batches ADD COLUMN stored INTEGER NOT NULL DEFAULT 1000;
    UPDATE batches SET stored = stored + (
        SELECT total(ifnull(length(request), 0) + ifnull(length(result), 0) + 100)
        FROM batch_lines WHERE batch_id = batches.id);
    ALTER TABLE responses ADD COLUMN stored INTEGER NOT NULL DEFAULT 1000;
    UPDATE responses SET stored = stored + length(body)
        + (SELECT total(length(item) + 100) FROM response_items WHERE response_id = responses.id)
        + (SELECT total(length(url) + 100) FROM response_images WHERE response_id = responses.id);
    INSERT INTO usage SELECT caller, sum(stored) FROM (SELECT caller, stored FROM files
        UNION ALL SELECT caller, stored FROM batches
        UNION ALL SELECT caller, stored FROM responses) GROUP BY caller;
    {_counted("files")}
    {_counted("batches")}
    {_counted("responses")}
    {_counted_rows("file_chunks", "files", "file_id", "length({row}.data)")}
    {_counted_rows("batch_lines", "batches", "batch_id", _LINE)}
    {_counted_rows("response_items", "responses", "response_id", "length({row}.item)")}
    {_counted_rows("response_images", "responses", "response_id", "length({row}.url)")}
    CREATE TRIGGER batch_lines_changed AFTER UPDATE OF request, result ON batch_lines BEGIN
        UPDATE batches SET stored = stored + ifnull(length(NEW.request), 0) + ifnull(length(NEW.result), 0)
            - ifnull(length(OLD.request), 0) - ifnull(length(OLD.result), 0)
        WHERE id = NEW.batch_id; END;
    CREATE TRIGGER responses_finished AFTER UPDATE OF body ON responses BEGIN
        UPDATE responses SET stored = stored + length(NEW.body) - length(OLD.body) WHERE id = NEW.id; END;
    """,
    f"""
    -- `usage` counts what is on the disk: names, states and the entries in indexes, too.
    {"".join(f"DROP TRIGGER {table}_added;{chr(10)}" for table in ("files", "batches", "responses", *_ROWS))}
    {"".join(f"DROP TRIGGER {table}_deleted;{chr(10)}" for table in _ROWS)}
    DROP TRIGGER batch_lines_changed;
    DROP TRIGGER responses_finished;
    {_count_again("files")}
    {_count_again("batches")}
    {_count_again("responses")}
    {"".join(_counted_on_disk(table) for table in ("files", "batches", "responses"))}
    {"".join(_counted_on_disk_below(table) for table in _ROWS)}
    """,
    """
    -- How often a line without a result was tried, counted before it is: the process may end with it.
    CREATE TABLE batch_attempts (
        batch_id TEXT NOT NULL,
        line INTEGER NOT NULL,
        attempts INTEGER NOT NULL,
        PRIMARY KEY (batch_id, line),
        FOREIGN KEY (batch_id, line) REFERENCES batch_lines (batch_id, line) ON DELETE CASCADE
    ) WITHOUT ROWID;
    -- What is asked every few seconds about unfinished batches, without their rows: a `state` may be long.
    DROP INDEX batches_by_status;
    CREATE INDEX batches_open ON batches (status, caller, total, completed, failed);
    """,
    """
    -- What a process that was killed left unfinished, by itself: it is looked for at every start.
    CREATE INDEX files_unfinished ON files (id) WHERE complete = 0;
    CREATE INDEX responses_unfinished ON responses (id) WHERE body = x'';
    """,
)
