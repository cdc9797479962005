"""Keys: made once, kept as hashes, told apart, picked up without a restart."""

import asyncio
import datetime as dt
import os
import stat
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

import pytest
from starlette.datastructures import Headers
from typer.testing import CliRunner

from gateway.access import keys, keys_file
from gateway.access.callers import Callers, access_problem
from gateway.access.keys import CallerClass, KeysError
from gateway.cli import app
from gateway.errors import InvalidAPIKey
from gateway.settings import Settings
from tests.each import each
from tests.growth import assert_linear
from tests.servers import until

HERE = "127.0.0.1"


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "keys.toml"


def bearer(key: str) -> dict[str, str]:
    return {"authorization": f"Bearer {key}"}


def run(*arguments: str | Path) -> str:
    result = CliRunner().invoke(app, ["keys", *map(str, arguments)], env={"COLUMNS": "200"})
    assert result.exit_code == 0, result.output
    return result.stdout


def test_a_key_is_shown_once_and_kept_as_its_hash(file: Path) -> None:
    secret = run("add", "alice", "--file", file).strip()
    assert secret.startswith("sk-")
    assert len(secret) >= 46  # 256 bits
    assert secret not in file.read_text()
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    caller = Callers(Settings(keys_file=file)).identify(bearer(secret), HERE)
    assert caller.name == "alice"
    assert "alice" in run("list", "--file", file)
    run("revoke", "alice", "--file", file)
    with pytest.raises(InvalidAPIKey):
        Callers(Settings(keys_file=file)).identify(bearer(secret), HERE)


def test_what_people_wrote_in_the_file_stays(file: Path) -> None:
    file.write_text("# ours\n[classes.batch]\nrequests_per_minute = 5 # few\nweight = 0.5\n")
    secret = keys.add(file, "night", "batch")
    assert file.read_text().startswith("# ours\n[classes.batch]\nrequests_per_minute = 5 # few\n")
    caller = Callers(Settings(keys_file=file)).identify(bearer(secret), HERE)
    assert caller.caller_class == CallerClass("batch", requests_per_minute=5, weight=0.5)


@each(
    ("text", "message"),
    [
        ("x", "Expected '=' after a key in a key/value pair (at end of document)"),
        ("[other]", "[other] is unknown; expected [classes.NAME] and [keys.NAME]"),
        ("[classes.a]\nweight = 0", "[classes.a]: weight must be a positive number, got 0"),
        ("[classes.a]\nweight = nan", "[classes.a]: weight must be a positive number, got nan"),
        ("[classes.a]\nweight = inf", "[classes.a]: weight must be a positive number, got inf"),
        (f"[classes.a]\nweight = {10**400}", "[classes.a]: weight must be a positive number, got 1000"),
        ("classes = 3", "classes is not a table; expected [classes.NAME]"),
        ("keys = []", "keys is not a table; expected [keys.NAME]"),
        ("a = " + "[" * 5000, "maximum recursion depth exceeded"),
        ("[classes.a]\nrequests_per_minute = 1.5", "[classes.a]: requests_per_minute must be a positive"),
        (
            "[classes.a]\nrequests_per_minute = true",
            "requests_per_minute must be a positive number, got True",
        ),
        ("[classes.a]\nrequests = 1", "[classes.a]: 'requests' is unknown; expected images_per_minute, "),
        ("[keys.a]\nhash = 'sk-1'", "[keys.a]: hash must be `sha256:` and 64 hexadecimal digits"),
        (f"[keys.a]\nhash = '{keys.hashed('1')}'\nclass = 'b'", "[keys.a]: there is no class 'b'; there are"),
        (
            f"[keys.a]\nhash = '{keys.hashed('1')}'\nclass = ['b']",
            "[keys.a]: there is no class ['b']; there are",
        ),
        (
            f"[keys.'no key']\nhash = '{keys.hashed('1')}'",
            "[keys.no key]: 'no key' is not a name; use up to 64",
        ),
        (
            f"[keys.a]\nhash = '{keys.hashed('1')}'\n[keys.b]\nhash = '{keys.hashed('1')}'",
            "[keys.b]: its hash is that of [keys.a]",
        ),
        (
            f"[keys.a]\nhash = '{keys.hashed('1')}'\nprevious = [{{hash = '{keys.hashed('2')}', until = 3}}]",
            "[keys.a]: previous.until must be a date, a time and `Z`; got 3",
        ),
        (
            "[keys.a]\nhash = '{0}'\n[keys.b]\nhash = '{1}'\nowner = '{0}'".format(*map(keys.hashed, "12")),
            "[keys.b]: its owner is that of [keys.a]",
        ),
        (f"[keys.a]\nhash = '{keys.hashed('1')}'\nklass = 'b'", "[keys.a]: 'klass' is unknown; expected"),
    ],
)
def test_a_broken_file_is_told_with_its_place(file: Path, text: str, message: str) -> None:
    file.write_text(text)
    with pytest.raises(KeysError) as caught:
        keys.load(file, CallerClass())
    assert str(caught.value).startswith(f"{file}: ")
    assert message in str(caught.value)


def test_who_could_read_the_file_still_can_after_a_change(file: Path) -> None:
    file.write_text("")
    file.chmod(0o640)
    link = file.with_name("link.toml")
    link.symlink_to(file)
    keys.add(link, "alice", None)
    assert link.is_symlink()
    assert "[keys.alice]" in file.read_text()
    assert stat.S_IMODE(file.stat().st_mode) == 0o640


def test_two_who_change_the_file_at_once_lose_nothing(file: Path) -> None:
    names = {f"name-{number}" for number in range(16)}
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda name: keys.add(file, name, None), names))
    assert {key.name for key in keys.load(file, CallerClass()).by_hash.values()} == names


def test_a_folder_that_is_missing_is_told(file: Path) -> None:
    missing = file.parent / "missing" / "keys.toml"
    with pytest.raises(KeysError, match=r"keys\.toml: No such file or directory$"):
        keys.add(missing, "alice", None)


def test_mistakes_at_the_command_are_told(file: Path) -> None:
    keys.add(file, "alice", None)
    for arguments in (["add", "alice"], ["add", "two words"], ["add", "x", "--class", "no"], ["revoke", "x"]):
        result = CliRunner().invoke(app, ["keys", *arguments, "--file", str(file)])
        assert result.exit_code == 2
        assert "error:" in result.output


def test_a_running_gateway_notices_a_change_and_survives_a_broken_one(
    file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(keys_file, "LOOK_EVERY", 0.0)
    alice = keys.add(file, "alice", None)
    known = Callers(Settings(keys_file=file))
    ben = keys.add(file, "ben", None)
    assert known.identify(bearer(ben), HERE).name == "ben"
    good = file.read_text()
    file.write_text("[keys.")
    assert known.identify(bearer(alice), HERE).name == "alice"
    file.write_text(good)
    keys.revoke(file, "alice")
    with pytest.raises(InvalidAPIKey):
        known.identify(bearer(alice), HERE)


def test_a_file_that_can_be_read_again_is_read(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(keys_file, "LOOK_EVERY", 0.0)
    alice = keys.add(file, "alice", None)
    known = Callers(Settings(keys_file=file))
    keys.revoke(file, "alice")
    with monkeypatch.context() as patched:
        patched.setattr(os, "open", _not_permitted)  # root may read all
        assert known.identify(bearer(alice), HERE).name == "alice"
    file.chmod(0o400)  # only the mode changes
    with pytest.raises(InvalidAPIKey):
        known.identify(bearer(alice), HERE)


def _not_permitted(*_: object) -> int:
    raise PermissionError(13, "Permission denied")


def test_a_file_that_is_half_written_takes_no_key_away(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(keys_file, "LOOK_EVERY", 0.0)
    monkeypatch.setattr(keys_file, "QUIET", 0.0)
    secrets = [keys.add(file, name, None) for name in ("alice", "ben", "cleo")]
    known = Callers(Settings(keys_file=file))
    whole = file.read_text()
    for lines in range(len(whole.splitlines())):
        file.write_text("".join(whole.splitlines(keepends=True)[:lines]))
        assert [known.identify(bearer(secret), HERE).name for secret in secrets] == ["alice", "ben", "cleo"]
        assert known.stale
    file.write_text(whole.replace("cleo", "carl"))
    assert known.identify(bearer(secrets[2]), HERE).name == "carl"
    assert not known.stale
    for secret in ("alice", "ben", "carl"):
        keys.revoke(file, secret)
    with pytest.raises(InvalidAPIKey):
        known.identify(bearer(secrets[0]), HERE)


def test_a_file_written_by_hand_takes_keys_away_when_it_has_been_quiet(
    file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(keys_file, "LOOK_EVERY", 0.0)
    one, other = (f"[keys.{name}]\nhash = '{keys.hashed(name)}'\n" for name in ("one", "other"))
    file.write_text(one + other)
    known = Callers(Settings(keys_file=file))
    file.write_text(one)
    assert known.identify(bearer("other"), HERE).name == "other"
    monkeypatch.setattr(keys_file, "QUIET", 0.0)
    file.write_text(one)
    with pytest.raises(InvalidAPIKey):
        known.identify(bearer("other"), HERE)
    file.write_text("")  # it is about to be written: nobody revokes all keys like this
    assert known.identify(bearer("one"), HERE).name == "one"


def test_a_fifo_is_no_keys_file(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(keys_file, "LOOK_EVERY", 0.0)
    alice = keys.add(file, "alice", None)
    known = Callers(Settings(keys_file=file))
    file.unlink()
    os.mkfifo(file)
    assert known.identify(bearer(alice), HERE).name == "alice"  # whoever reads it waits for ever
    assert access_problem(Settings(keys_file=file)) == f"{file}: it is not a regular file"


async def test_a_file_is_watched_off_the_loop(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(keys_file, "LOOK_EVERY", 0.01)
    keys.add(file, "alice", None)
    known = Callers(Settings(keys_file=file))
    watching = asyncio.create_task(known.watch())
    try:
        await asyncio.sleep(0)
        threads: list[int] = []
        load = keys.load

        def noted(path: Path, default: CallerClass) -> keys.Keys:
            threads.append(threading.get_ident())
            return load(path, default)

        following = file.with_name("following.toml")
        ben = keys.add(following, "ben", None)  # This loads the file too, in this thread.
        monkeypatch.setattr(keys, "load", noted)
        following.replace(file)

        def admitted() -> bool:
            with suppress(InvalidAPIKey):
                return known.identify(bearer(ben), HERE).name == "ben"
            return False

        await until(admitted)
        assert threads
        assert threading.get_ident() not in threads
    finally:
        watching.cancel()


def test_a_key_that_is_replaced_stays_valid_until_its_date(file: Path) -> None:
    file.write_text("[classes.batch]\nweight = 0.5\n")
    old = keys.add(file, "alice", "batch")
    new = run("add", "alice", "--replace", "--until", "2100-01-01", "--file", file).strip()
    known = Callers(Settings(keys_file=file))
    assert known.identify(bearer(old), HERE) == known.identify(bearer(new), HERE)  # its files too
    assert "2100-01-01 00:00 UTC" in run("list", "--file", file)
    newest = run("add", "alice", "--replace", "--file", file).strip()
    known = Callers(Settings(keys_file=file))
    assert len({known.identify(bearer(key), HERE) for key in (old, new, newest)}) == 1
    last = run("add", "alice", "--replace", "--until", "2020-01-01", "--file", file).strip()
    known = Callers(Settings(keys_file=file))
    assert known.identify(bearer(last), HERE).caller_class.weight == 0.5
    for ended in (old, new, newest):  # none outlives one that came after it
        with pytest.raises(InvalidAPIKey, match="the API key is not valid"):
            known.identify(bearer(ended), HERE)
    run("revoke", "alice", "--file", file)
    with pytest.raises(InvalidAPIKey):
        Callers(Settings(keys_file=file)).identify(bearer(last), HERE)


def test_a_replaced_key_after_its_date_is_told_so(file: Path) -> None:
    old = keys.add(file, "alice", None)
    ends = dt.datetime.now(dt.UTC) + dt.timedelta(milliseconds=50)
    keys.add(file, "alice", None, replaced_until=ends)
    known = Callers(Settings(keys_file=file))
    assert known.identify(bearer(old), HERE).name == "alice"
    time.sleep(0.06)
    with pytest.raises(
        InvalidAPIKey, match=r"^the API key was replaced, and was valid until 20..-..-.. ..:.. UTC"
    ):
        known.identify(bearer(old), HERE)


def test_a_name_that_is_revoked_and_added_again_starts_empty(
    file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(keys_file, "LOOK_EVERY", 0.0)
    first = keys.add(file, "alice", None)
    known = Callers(Settings(keys_file=file))
    before = known.identify(bearer(first), HERE).scope
    assert known.known(before)
    keys.revoke(file, "alice")
    assert not known.known(before)  # whatever is under way for it can end
    after = known.identify(bearer(keys.add(file, "alice", None)), HERE).scope
    assert after != before
    assert known.known(after)
    assert not known.known(before)


def test_a_key_without_a_name_keeps_its_files_when_another_is_removed() -> None:
    both, one = Callers(Settings(api_keys=("sk-1", "sk-2"))), Callers(Settings(api_keys=("sk-2",)))
    scopes = [both.identify(bearer(key), HERE).scope for key in ("sk-1", "sk-2")]
    assert one.identify(bearer("sk-2"), HERE).scope == scopes[1] != scopes[0]


def test_what_is_sent_to_a_gateway_without_keys_is_no_keys_scope() -> None:
    keyed, keyless = Callers(Settings(api_keys=("alice:sk-1",))), Callers(Settings())
    alice = keyed.identify(bearer("sk-1"), HERE).scope
    for sent in ("key alice", "alice", "sk-1", "Bearer sk-1", keys.hashed("sk-1"), ""):
        assert keyless.identify({"authorization": sent}, HERE).scope != alice
    assert keyless.known("anybody")
    assert not keyed.known(keyless.identify({}, HERE).scope)


@pytest.mark.parametrize(
    ("given", "problem"),
    [
        (("ann:sk-1", "ann:sk-2"), "two keys have the name 'ann'"),
        (("key-2:sk-1", "sk-2"), "two keys have the name 'key-2'"),
        (("ann:sk-1", "ben:sk-1"), "'ann' and 'ben' are the same key"),
    ],
)
def test_names_and_keys_are_there_once(given: tuple[str, ...], problem: str) -> None:
    assert (access_problem(Settings(api_keys=given)) or "").startswith(f"GATEWAY_API_KEYS: {problem}")


def test_a_name_of_the_setting_is_none_of_the_file(file: Path) -> None:
    keys.add(file, "alice", None)
    problem = access_problem(Settings(api_keys=("alice:sk-1",), keys_file=file))
    assert problem == f"{file}: [keys.alice]: GATEWAY_API_KEYS has this name or key, too"


async def test_eight_times_as_many_keys_take_about_eight_times_as_long(file: Path) -> None:
    def add(number: int) -> None:
        file.write_text("".join(f"[keys.k{at}]\nhash = '{keys.hashed(str(at))}'\n" for at in range(number)))
        keys.add(file, "more", None)
        Callers(Settings(keys_file=file))

    await assert_linear(add, 100)


@pytest.mark.parametrize(
    "sent", ["", "Bearer", "Bearer ", "Basic sk-1", "sk-1", "Bearer sk-2", "Bearer \udcff"]
)
def test_who_has_no_key_is_not_let_in(sent: str) -> None:
    callers = Callers(Settings(api_keys=("ann:sk-1",)))
    with pytest.raises(InvalidAPIKey):
        callers.identify({"authorization": sent}, HERE)
    assert callers.identify({"authorization": "bearer  sk-1 "}, HERE).name == "ann"


def test_keys_of_the_environment_have_names() -> None:
    callers = Callers(Settings(api_keys=("ann:sk-1", "sk-a=b==")))
    assert callers.identify(bearer("sk-1"), HERE).name == "ann"
    assert callers.identify(bearer("sk-a=b=="), HERE).name == "key-2"


@pytest.mark.parametrize(
    ("address", "header", "name"),
    [
        ("192.0.2.1", "", "address:192.0.2.1"),
        ("192.0.2.1", "198.51.100.7", "address:192.0.2.1"),  # nobody's proxy
        ("10.0.0.1", "1.1.1.1, 198.51.100.7", "address:198.51.100.7"),
        ("10.0.0.1", "1.1.1.1:5, 198.51.100.7:443", "address:198.51.100.7"),  # as Azure's gateway writes it
        ("10.0.0.1", "[2001:db8::1:2:3:4]:443", "address:2001:db8::"),
        ("10.0.0.1", "[2001:db8::1:2:3:4]", "address:2001:db8::"),
        ("10.0.0.1", "[::ffff:192.0.2.1]:80", "address:192.0.2.1"),
        ("10.0.0.1", "rubbish", "address:unknown"),
        ("10.0.0.1", "[2001:db8::1", "address:2001:db8::"),
        ("10.0.0.1", "", "address:10.0.0.1"),
        ("2001:db8::1:2:3:4", "", "address:2001:db8::"),
        ("::ffff:192.0.2.1", "", "address:192.0.2.1"),
        ("", "", "address:unknown"),
    ],
)
def test_without_keys_callers_are_told_apart_by_address(address: str, header: str, name: str) -> None:
    settings = Settings(trusted_proxies=("10.0.0.0/8",), client_address_header="x-forwarded-for")
    caller = Callers(settings).identify({"x-forwarded-for": header}, address)
    assert caller.name == name


def test_a_client_cannot_name_an_address_in_a_header_line_of_its_own() -> None:
    settings = Settings(trusted_proxies=("10.0.0.0/8",), client_address_header="x-forwarded-for")
    lines = [(b"x-forwarded-for", b"1.1.1.1"), (b"x-forwarded-for", b"198.51.100.7")]
    caller = Callers(settings).identify(Headers(raw=lines), "10.0.0.1")
    assert caller.name == "address:198.51.100.7"


def test_scopes_are_apart_and_give_no_key_away() -> None:
    callers = Callers(Settings())
    one, other = (callers.identify(bearer(key), HERE) for key in ("sk-one", "sk-other"))
    assert one.scope != other.scope
    assert "sk-one" not in repr(one) + one.scope


@pytest.mark.parametrize(
    ("settings", "problem"),
    [
        ({}, None),
        ({"host": "localhost"}, None),
        ({"host": "::1"}, None),
        ({"host": "0.0.0.0"}, "GATEWAY_HOST=0.0.0.0: other machines can reach this address"),
        ({"host": "example.org"}, "GATEWAY_HOST=example.org: "),
        ({"host": "0.0.0.0", "open_access": True}, None),
        ({"host": "0.0.0.0", "playground": "share"}, None),
        (
            {"playground": "share", "api_keys": ("sk-1",)},
            "GATEWAY_PLAYGROUND=share is for a gateway without API keys",
        ),
        ({"metrics_access": "key"}, "GATEWAY_METRICS_ACCESS=key needs an API key; set "),
        ({"metrics_access": "key", "api_keys": ("sk-1",)}, None),
        ({"host": "0.0.0.0", "api_keys": ("sk-1",)}, None),
        ({"keys_file": Path("missing.toml")}, "missing.toml: [Errno 2] No such file or directory"),
    ],
)
def test_it_starts_without_keys_on_loopback_alone(settings: dict[str, object], problem: str | None) -> None:
    found = access_problem(Settings(**settings))  # type: ignore[arg-type]  # each of its own type
    assert found is None if problem is None else found is not None and found.startswith(problem)
