"""The schema of the database, as the steps that lead to it. A step that was released never changes; add one.

Every row of a table that clients can name belongs to a `caller`; every query for a client asks for both.
Times are Unix seconds. What has an `expires_at` is deleted after it when its table is in `EXPIRING`.
"""

from typing import Final

EXPIRING: Final = ("files", "batches", "responses")

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
)
