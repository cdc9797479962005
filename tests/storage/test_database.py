"""One file, one thread: transactions are stored completely or not at all, and disk failures are named."""

import asyncio
import sqlite3
import stat
import subprocess
import sys
import threading
from collections.abc import AsyncIterator
from contextlib import closing
from functools import partial
from pathlib import Path

import pytest

from gateway.errors import StorageFull, StorageUnavailable
from gateway.storage.database import NAME, Connection, Database
from gateway.storage.expiry import delete_expired
from gateway.storage.files import Files
from gateway.storage.migrations import MIGRATIONS
from gateway.storage.reserve import NAME as RESERVE

GIB = 2**30


@pytest.fixture
async def database(tmp_path: Path) -> AsyncIterator[Database]:
    opened = Database(tmp_path / "state", GIB)
    yield opened
    await opened.close()


def put(connection: Connection, name: str = "file-1", size: int = 0) -> None:
    connection.execute(
        "INSERT INTO files (id, caller, filename, purpose, created_at) VALUES (?, 'a', 'x', 'vision', 1)",
        (name,),
    )
    if size:
        connection.execute("INSERT INTO file_chunks VALUES (?, 0, zeroblob(?))", (name, size))


def everything(connection: Connection) -> list[tuple[object, ...]]:
    return connection.execute("SELECT * FROM files JOIN file_chunks ON file_id = id").fetchall()


def files(connection: Connection) -> list[tuple[object, ...]]:
    return connection.execute("SELECT * FROM files").fetchall()


def count(connection: Connection) -> int:
    (rows,) = connection.execute("SELECT count(*) FROM files").fetchone()
    return int(rows)


async def test_nothing_is_on_the_disk_before_something_is_stored(tmp_path: Path) -> None:
    unused = Database(tmp_path / "state", GIB)
    assert not unused.exists()
    await unused.close()
    assert not (tmp_path / "state").exists()


async def test_only_the_user_may_read_what_is_stored(database: Database) -> None:
    await database.write(put)
    files = sorted(path.name for path in database.folder.iterdir())
    assert files == [RESERVE, NAME, f"{NAME}-shm", f"{NAME}-wal"]
    assert {stat.S_IMODE(path.stat().st_mode) for path in database.folder.iterdir()} == {0o600}
    assert stat.S_IMODE(database.folder.stat().st_mode) == 0o700


async def test_default_folder_is_the_users_state_home(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    assert Database(None, GIB).folder == tmp_path / "llava-gateway"
    monkeypatch.delenv("XDG_STATE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert Database(None, GIB).folder == tmp_path / ".local" / "state" / "llava-gateway"


async def test_all_work_runs_in_one_thread_that_is_not_the_loops(database: Database) -> None:
    threads = await asyncio.gather(
        *(database.read(lambda _: threading.get_ident()) for _ in range(4)),
        *(database.write(lambda _: threading.get_ident()) for _ in range(4)),
    )
    assert len(set(threads)) == 1
    assert threading.get_ident() not in threads


async def test_work_that_fails_stores_nothing(database: Database) -> None:
    def fails(connection: Connection) -> None:
        put(connection)
        raise KeyError("mine")

    with pytest.raises(KeyError, match="mine"):
        await database.write(fails)
    assert await database.read(count) == 0


async def test_a_bug_is_not_reported_as_a_disk_failure(database: Database) -> None:
    await database.write(put)
    with pytest.raises(sqlite3.IntegrityError):
        await database.write(put)
    with pytest.raises(sqlite3.OperationalError, match="syntax error"):
        await database.read(lambda connection: connection.execute("SELEKT"))


async def test_what_is_stored_is_there_after_a_restart(tmp_path: Path) -> None:
    first = Database(tmp_path, GIB)
    await first.write(put)
    await first.close()
    second = Database(tmp_path, GIB)
    assert second.exists()
    assert await second.read(count) == 1
    await second.close()


async def test_two_processes_may_use_one_file(tmp_path: Path) -> None:
    one, other = Database(tmp_path, GIB), Database(tmp_path, GIB)
    await asyncio.gather(
        *(one.write(partial(put, name=f"one-{n}")) for n in range(20)),
        *(other.write(partial(put, name=f"other-{n}")) for n in range(20)),
    )
    assert await one.read(count) == await other.read(count) == 40
    await one.close()
    await other.close()


async def test_size_is_bounded_and_deleting_makes_room(tmp_path: Path) -> None:
    small = Database(tmp_path, 2**20)
    await small.write(lambda connection: put(connection, "half", 2**19))
    with pytest.raises(StorageFull, match=r"^the storage is full; delete files that are no longer needed$"):
        await small.write(lambda connection: put(connection, "more", 2**20))
    assert await small.read(count) == 1
    await small.write(lambda connection: connection.execute("DELETE FROM files"))
    await small.write(lambda connection: put(connection, "more", 2**19 + 2**18))
    assert (tmp_path / NAME).stat().st_size <= 2**20
    await small.close()


async def test_folder_that_cannot_be_made_is_reported_and_tried_again(tmp_path: Path) -> None:
    (tmp_path / "in-the-way").write_text("a file")
    blocked = Database(tmp_path / "in-the-way", GIB)
    assert not blocked.exists()
    with pytest.raises(StorageUnavailable, match=r"^nothing can be stored: File exists$"):
        await blocked.write(put)
    (tmp_path / "in-the-way").unlink()
    await blocked.write(put)
    await blocked.close()


async def test_without_a_home_the_setting_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    def no_home() -> Path:
        raise RuntimeError

    monkeypatch.delenv("XDG_STATE_HOME", raising=False)
    monkeypatch.setattr(Path, "home", no_home)
    homeless = Database(None, GIB)
    assert not homeless.exists()
    with pytest.raises(StorageUnavailable, match=r"^nothing can be stored: GATEWAY_STATE_DIR is not set$"):
        await homeless.write(put)
    await homeless.close()


@pytest.mark.parametrize("place", [0, 8192])
async def test_damaged_file_is_reported_and_left_as_it_is(tmp_path: Path, place: int) -> None:
    first = Database(tmp_path, GIB)
    for name in range(200):
        await first.write(partial(put, name=f"file-{name}", size=1000))
    await first.close()
    content = bytearray((tmp_path / NAME).read_bytes())
    content[place : place + 65536] = b"\xff" * 65536
    (tmp_path / NAME).write_bytes(content)

    damaged = Database(tmp_path, GIB)
    with pytest.raises(StorageUnavailable, match=r"^nothing can be stored: the state file is damaged$"):
        await damaged.read(
            lambda connection: connection.execute("SELECT * FROM files, file_chunks").fetchall()
        )
    assert len((tmp_path / NAME).read_bytes()) == len(content)
    (tmp_path / NAME).unlink()
    await damaged.write(put)
    await damaged.close()


# A process that may write no file over 200 kB: the write fails half way, as on a full disk.
FULL_FILE = """
import asyncio, resource, sys
from pathlib import Path
from gateway.errors import GatewayError
from gateway.storage.database import Database

async def main():
    resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, 200_000))
    database = Database(Path(sys.argv[1]), 2**30)
    add = "INSERT INTO files (id, caller, filename, purpose, created_at) VALUES (?, 'a', 'x', 'vision', 1)"
    await database.write(lambda connection: connection.execute(add, ("before",)))
    rows = [(f"{n}" * 99,) for n in range(5000)]
    try:
        await database.write(lambda connection: connection.executemany(add, rows))
    except GatewayError as error:
        print(error.status, error.message)
    rows = await database.read(lambda connection: connection.execute("SELECT id FROM files").fetchall())
    print(rows)

asyncio.run(main())
"""


def test_disk_that_fails_in_the_middle_of_a_write_keeps_what_was_stored(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", FULL_FILE, str(tmp_path)],
        capture_output=True,
        text=True,
        timeout=30,
        check=True,
    )
    assert "503 nothing can be stored: the state file is on a disk that reports an error\n" in done.stdout
    assert done.stdout.endswith("[('before',)]\n")


MOVED = (
    r"^nothing can be stored: the state file was moved or deleted; "
    r"put it back, or restart the gateway for a new one$"
)


async def test_a_moved_state_file_is_an_error_until_it_is_back(database: Database) -> None:
    await database.write(put)
    path = database.folder / NAME
    path.rename(path.with_name("elsewhere"))
    for _ in range(2):
        with pytest.raises(StorageUnavailable, match=MOVED):
            await database.write(partial(put, name="lost"))
        with pytest.raises(StorageUnavailable, match=MOVED):
            await database.read(count)
    assert not path.exists()
    with closing(sqlite3.connect(path.with_name("elsewhere"))) as connection:
        assert count(connection) == 1
    path.with_name("elsewhere").rename(path)
    await database.write(partial(put, name="file-2"))
    assert await database.read(count) == 2


async def test_a_state_file_deleted_during_a_write_is_an_error(database: Database) -> None:
    await database.write(put)

    def put_and_lose(connection: Connection) -> None:
        put(connection, "lost")
        (database.folder / NAME).unlink()

    with pytest.raises(StorageUnavailable, match=MOVED):
        await database.write(put_and_lose)


async def test_a_file_that_is_replaced_is_noticed_and_then_used(database: Database, tmp_path: Path) -> None:
    other = Database(tmp_path / "other", GIB)
    for name in ("a", "b"):
        await other.write(partial(put, name=name))
    await other.close()
    upload = await Files(database).begin("ann", "x")
    (tmp_path / "other" / NAME).rename(database.folder / NAME)
    with pytest.raises(StorageUnavailable, match=MOVED):
        await upload.write(b"x")
    with pytest.raises(
        StorageUnavailable, match="the file uploaded so far is no longer stored; send it again"
    ):
        await upload.write(b"x")
    assert await database.read(count) == 2


async def test_only_deletions_use_the_reserve(database: Database) -> None:
    await database.write(put)
    reserve = database.folder / RESERVE
    assert reserve.stat().st_size == 2**24

    def delete_on_a_full_disk(connection: Connection) -> int:
        if reserve.stat().st_size:
            connection.execute("PRAGMA max_page_count = 1")
            put(connection, "more", 2**20)
        return connection.execute("DELETE FROM files").rowcount

    with pytest.raises(StorageFull):
        await database.write(delete_on_a_full_disk)
    assert await database.free(delete_on_a_full_disk) == 1
    assert await database.read(count) == 0
    assert reserve.stat().st_size == 2**24
    await database.write(partial(put, name="more", size=2**20))


# Runs the program twice on a private disk; `set +e` because the program kills itself.
SMALL_DISK = 'mount -t tmpfs -o size=24m tmpfs "$0"; echo mounted; set +e; "$@"; "$@"'

# Fills a disk of 24 MB together with another file; then deletes half of the files and kills itself.
FULL_DISK = """
import asyncio, os, sys
from pathlib import Path
from gateway.errors import StorageFull
from gateway.storage.database import Database
from gateway.storage.files import Files, Listing

def fill_up(path):
    with open(path, "ab", buffering=0) as other:
        try:
            while other.write(bytes(4096)):
                pass
        except OSError:
            pass

async def main(folder):
    files = Files(Database(folder / "state", 2**40))
    if not (folder / "other").exists():
        try:
            while True:
                upload = await files.begin("eve", "x")
                await upload.write(os.urandom(2**20))
                await upload.finish("vision", None)
        except StorageFull:
            pass
    fill_up(folder / "other")
    stored = [file async for some in files.pieces("eve", Listing(100, "asc")) for file in some]
    for file in stored[: 1 + len(stored) // 2]:
        await files.delete(file.id, "eve")
    left = [file async for some in files.pieces("eve", Listing(100, "asc")) for file in some]
    print('files', len(stored), len(left), flush=True)
    os._exit(9)

asyncio.run(main(Path(sys.argv[1])))
"""


def test_a_full_disk_can_be_emptied_also_after_a_restart(tmp_path: Path) -> None:
    program = (sys.executable, "-c", FULL_DISK, str(tmp_path))
    private = ("unshare", "--user", "--map-root-user", "--mount", "sh", "-ec", SMALL_DISK, str(tmp_path))
    done = subprocess.run([*private, *program], capture_output=True, text=True, timeout=60, check=False)
    mounted, *lines = done.stdout.splitlines() or [""]
    if mounted != "mounted":
        pytest.skip("on this machine a user may not mount a small disk")
    counts = [map(int, line.split()[1:]) for line in lines if line.startswith("files ")]
    (stored, left), (stored_then, left_then) = counts
    assert stored > 2
    assert left == stored_then == stored - 1 - stored // 2
    assert left_then == left - 1 - left // 2


async def test_what_a_killed_process_left_unfinished_is_deleted_at_the_next_start(tmp_path: Path) -> None:
    killed = Database(tmp_path, GIB)
    await (await Files(killed).begin("ann", "x")).write(b"x")
    beside = Database(tmp_path, GIB)
    assert await delete_expired(beside, 1) == 0  # it may still be finished
    for ended in (killed, beside):
        ended._reserve.close()  # as the kernel does
    first = Database(tmp_path, GIB)
    assert await delete_expired(first, 1) == 1
    assert await first.read(count) == 0
    for opened in (killed, beside, first):
        await opened.close()


async def test_state_of_a_newer_gateway_is_refused(tmp_path: Path) -> None:
    with sqlite3.connect(tmp_path / NAME) as connection:
        connection.execute("PRAGMA user_version = 1000")
    connection.close()
    older = Database(tmp_path, GIB)
    with pytest.raises(
        StorageUnavailable, match=r"wrote the state file \(schema 1000; this one supports up to 1\)"
    ):
        await older.write(put)
    await older.close()


async def test_new_migrations_run_once_and_keep_the_data(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = Database(tmp_path, GIB)
    await first.write(put)
    await first.close()
    step = "ALTER TABLE files ADD COLUMN colour TEXT DEFAULT 'red';\n"
    monkeypatch.setattr("gateway.storage.database.MIGRATIONS", (*MIGRATIONS, step))
    for _ in range(2):
        newer = Database(tmp_path, GIB)
        colours = await newer.read(
            lambda connection: connection.execute("SELECT colour FROM files").fetchall()
        )
        assert colours == [("red",)]
        await newer.close()


async def test_failed_migration_leaves_the_file_as_it_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = Database(tmp_path, GIB)
    await first.write(put)
    await first.close()
    step = "CREATE TABLE half (id TEXT);\nCREATE TABLE half (id TEXT);\n"
    with monkeypatch.context() as patched:
        patched.setattr("gateway.storage.database.MIGRATIONS", (*MIGRATIONS, step))
        newer = Database(tmp_path, GIB)
        with pytest.raises(sqlite3.OperationalError, match="already exists"):
            await newer.read(count)
        await newer.close()
    again = Database(tmp_path, GIB)
    assert await again.read(count) == 1
    await again.close()
