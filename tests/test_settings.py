"""Every setting can be set from the environment, and a mistake is told by name."""

import os
import socket
import tempfile
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError
from typer.testing import CliRunner

from gateway import cli, settings
from gateway.cli import app
from gateway.engine import fork_server
from gateway.settings import GROUPS, Settings, UnknownSetting
from gateway.settings.page import FIRST, page
from tests.each import each

PAGE = Path(__file__).parent.parent / "docs/settings.md"

# field: what the environment says, what the setting is then
GIVEN: dict[str, tuple[str, Any]] = {
    "auto_tools": ("always", "always"),
    "profile": ("llava-1.5-7b", "llava-1.5-7b"),
    "host": ("0.0.0.0", "0.0.0.0"),
    "port": ("9000", 9000),
    "log_format": ("json", "json"),
    "log_level": ("debug", "debug"),
    "api_keys": ("ann:sk-1,sk-2", ("ann:sk-1", "sk-2")),
    "keys_file": ("keys.toml", Path("keys.toml")),
    "playground": ("on", "on"),
    "fork_server": ("false", False),
    "state_url": ("postgresql://db/llava", "postgresql://db/llava"),
    "playground_examples": ("examples", Path("examples")),
    "open_access": ("true", True),
    "allowed_hosts": ("chat.lan, ::1", ("chat.lan", "::1")),
    "trusted_proxies": ("10.0.0.0/8", ("10.0.0.0/8",)),
    "client_address_header": ("X-Forwarded-For", "x-forwarded-for"),
    "metrics_access": ("key", "key"),
    "metrics_port": ("9100", 9100),
    "requests_per_minute": ("10", 10),
    "tokens_per_minute": ("11", 11),
    "images_per_minute": ("12", 12),
    "requests_at_once": ("13", 13),
    "limits_url": ("redis://127.0.0.1", "redis://127.0.0.1"),
    "limits_unreachable": ("refuse", "refuse"),
    "cors_origins": ("https://a.org, http://[::1]:3000", ("https://a.org", "http://[::1]:3000")),
    "max_running": ("3", 3),
    "cache_scope": ("shared", "shared"),
    "max_waiting": ("0", 0),
    "max_wait": ("1.5", 1.5),
    "max_connections": ("7", 7),
    "max_connections_per_address": ("0", 0),
    "header_max_bytes": ("999", 999),
    "header_timeout": ("2.5", 2.5),
    "body_max_bytes": ("1000", 1000),
    "body_timeout": ("0.5", 0.5),
    "request_timeout": ("60", 60.0),
    "stall_timeout": ("61", 61.0),
    "heartbeat_timeout": ("9", 9.0),
    "drain_delay": ("4", 4.0),
    "shutdown_timeout": ("7", 7.0),
    "send_timeout": ("5", 5.0),
    "aliases": ("gpt-4o, gpt-4-vision-preview", ("gpt-4o", "gpt-4-vision-preview")),
    "max_tokens_over": ("refuse", "refuse"),
    "max_images": ("2", 2),
    "image_history": ("strict", "strict"),
    "image_overflow": ("sample", "sample"),
    "image_max_bytes": ("99", 99),
    "image_max_pixels": ("98", 98),
    "image_fit": ("crop", "crop"),
    "image_place": ("asked", "asked"),
    "image_decode": ("exact", "exact"),
    "image_cache_bytes": ("0", 0),
    "image_decode_timeout": ("3", 3.0),
    "memory": ("9000", 9000),
    "memory_bodies": ("94", 94),
    "memory_images": ("95", 95),
    "memory_stored": ("94", 94),
    "memory_pixels": ("96", 96),
    "image_threads": ("2", 2),
    "fetch_images": ("false", False),
    "fetch_hosts": ("example.org", ("example.org",)),
    "fetch_timeout": ("0.25", 0.25),
    "fetch_max_redirects": ("0", 0),
    "fetch_user_agent": ("pictures/1 (me@example.org)", "pictures/1 (me@example.org)"),
    "state_dir": ("/var/lib/gateway", Path("/var/lib/gateway")),
    "state_max_bytes": ("1000000", 1_000_000),
    "state_max_bytes_per_caller": ("1000", 1000),
    "upload_max_bytes": ("5000", 5000),
    "upload_timeout": ("5", 5.0),
    "max_uploads": ("2", 2),
    "batch_max_running": ("3", 3),
    "state_ttl": ("3600", 3600),
    "fetch_allow": ("pictures.lan, 10.0.0.0/8,", ("pictures.lan", "10.0.0.0/8")),
}

BAD = [
    ("PORT", "70000"),
    ("PORT", "http"),
    ("LOG_FORMAT", "xml"),
    ("MAX_RUNNING", "0"),
    ("MAX_RUNNING", "many"),
    ("MAX_WAITING", "-1"),
    ("MAX_WAIT", "0"),
    ("BODY_MAX_BYTES", "1MB"),
    ("IMAGE_FIT", "stretch"),
    ("IMAGE_HISTORY", "all"),
    ("MAX_TOKENS_OVER", "ignore"),
    ("IMAGE_PLACE", "front"),
    ("IMAGE_DECODE", "quick"),
    ("IMAGE_CACHE_BYTES", "-5"),
    ("FETCH_ALLOW", "10.0.0.0/99"),
    ("CORS_ORIGINS", "https://a.org/"),
    ("CORS_ORIGINS", "a.org"),
    ("ALLOWED_HOSTS", "chat.lan:8000"),
    ("ALLOWED_HOSTS", "http://chat.lan"),
    ("CORS_ORIGINS", "https://A.org"),
]


@pytest.fixture(autouse=True)
def _clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in GIVEN:
        monkeypatch.delenv(f"GATEWAY_{name.upper()}", raising=False)


def test_every_setting_is_tried_here() -> None:
    assert set(GIVEN) == set(Settings.model_fields)


@each("name", GIVEN)
def test_every_setting_is_taken_from_the_environment(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    written, meant = GIVEN[name]
    assert getattr(settings.load(), name) != meant
    with monkeypatch.context() as patch:
        patch.setenv(f"GATEWAY_{name.upper()}", written)
        assert settings.load() == Settings().model_copy(update={name: meant})


def test_what_is_chosen_goes_before_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GATEWAY_PORT", "9000")
    assert settings.load(port=9001, host=None).port == 9001
    assert settings.load(port=None).port == 9000


def test_settings_are_frozen() -> None:
    with pytest.raises(ValidationError, match="frozen"):
        setattr(Settings(), "port", 1)  # noqa: B010  # mypy knows better than to assign


@pytest.mark.parametrize(
    ("name", "question"),
    [
        ("GATEWAY_MAX_RUNING", "; did you mean GATEWAY_MAX_RUNNING?"),
        ("GATEWAY_API_KEY", "; did you mean GATEWAY_API_KEYS?"),
        ("GATEWAY_X", ""),  # the prefix, which all share, does not count
    ],
)
def test_misspelt_variable_is_refused_with_the_closest_name(
    name: str, question: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(name, "3")
    with pytest.raises(UnknownSetting) as caught:
        settings.load()
    assert str(caught.value) == f"{name}: there is no such setting{question}"


@each(("name", "value"), BAD)
def test_bad_value_is_told_with_its_variable(name: str, value: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        patch.setenv(f"GATEWAY_{name}", value)
        with pytest.raises(ValidationError) as caught:
            settings.load()
    told = settings.explain(caught.value)
    assert told.startswith(f"GATEWAY_{name}: ")
    assert value in told


@pytest.mark.parametrize(
    ("variables", "options", "told"),
    [
        (
            {"GATEWAY_MAX_RUNING": "3"},
            [],
            "error: GATEWAY_MAX_RUNING: there is no such setting; did you mean GATEWAY_MAX_RUNNING?",
        ),
        (
            {},
            ["--port", "70000"],
            "error: GATEWAY_PORT: Input should be less than or equal to 65535; got 70000",
        ),
        (
            {},
            ["--profile", "[b]none"],
            "error: profile '[b]none': no such profile; there are demo, llava-1.5-",
        ),
    ],
)
def test_command_refuses_a_mistake_in_one_line_and_leaves_with_2(
    variables: dict[str, str], options: list[str], told: str
) -> None:
    result = CliRunner().invoke(app, ["serve", *options], env=variables)
    assert result.exit_code == 2
    assert result.stderr.startswith(told)
    assert result.stderr.count("\n") == 1


def test_the_budgets_of_memory_follow_one_setting_unless_they_are_set() -> None:
    mib = 2**20
    plain = Settings()
    budgets = (plain.memory_bodies, plain.memory_stored, plain.memory_images, plain.memory_pixels)
    assert budgets == (512 * mib, 256 * mib, 256 * mib, 1536 * mib)
    small = Settings(memory=1000 * mib, memory_stored=50 * mib)
    budgets = (small.memory_bodies, small.memory_stored, small.memory_images, small.memory_pixels)
    assert budgets == (200 * mib, 50 * mib, 100 * mib, 600 * mib)


def test_a_wrong_memory_is_one_mistake(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GATEWAY_MEMORY", "much")
    with pytest.raises(ValidationError) as caught:
        settings.load()
    assert settings.explain(caught.value) == (
        "GATEWAY_MEMORY: Input should be a valid integer, unable to parse string as an integer; got 'much'"
    )


def test_a_port_in_use_is_refused_before_the_model_is_loaded() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        result = CliRunner().invoke(app, ["serve", "--profile", "demo", "--port", str(port)])
    assert (result.exit_code, result.stderr) == (
        1,
        f"error: port {port} of 127.0.0.1 is in use; choose another with --port\n",
    )
    assert fork_server.started() is None  # It has imported for nothing, and is gone.


def test_value_is_told_literally_even_where_it_looks_like_markup() -> None:
    result = CliRunner().invoke(app, ["serve"], env={"GATEWAY_MAX_RUNNING": "[red]"})
    assert result.stderr.endswith("; got '[red]'\n")


def test_the_page_in_the_docs_is_the_settings() -> None:
    assert PAGE.read_text() == page()


def test_the_page_has_a_row_for_each_setting() -> None:
    rows = [row for row in page().splitlines() if row.startswith("| `")]
    others = [name for group in GROUPS for name in group.model_fields if name not in FIRST]
    assert [row.split("`")[1] for row in rows] == [f"GATEWAY_{name.upper()}" for name in (*FIRST, *others)]
    assert {name for group in GROUPS for name in group.model_fields} == set(Settings.model_fields)
    assert all(row.rstrip().endswith(". |") for row in rows)
    assert "| `GATEWAY_MAX_RUNNING` | `64` | " in page()
    assert "| `GATEWAY_PROFILE` | none | " in page()


@pytest.mark.parametrize(("sequences", "running"), [(4, 64), (40, 80), (256, 512)])
def test_requests_at_once_follow_the_engine_unless_they_are_set(sequences: int, running: int) -> None:
    assert Settings().completed(sequences, keyed=False).max_running == running
    assert Settings(max_running=5).completed(sequences, keyed=False).max_running == 5


def test_cached_prompts_are_apart_where_keys_are_asked_for_unless_they_are_shared() -> None:
    assert Settings().completed(4, keyed=True).cache_scope == "caller"
    assert Settings().completed(4, keyed=False).cache_scope == "shared"
    assert Settings(cache_scope="shared").completed(4, keyed=True).cache_scope == "shared"
    assert Settings(cache_scope="caller").completed(4, keyed=False).cache_scope == "caller"


def test_command_prints_the_table() -> None:
    result = CliRunner().invoke(app, ["settings"])
    assert (result.exit_code, result.stdout) == (0, page())


def test_a_user_without_a_home_gets_one_that_only_they_can_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.setattr(os.path, "expanduser", lambda path: path)  # as of an id without a name
    monkeypatch.setattr(cli, "app", lambda: None)
    monkeypatch.setenv("HOME", "")
    cli.main()
    home = tmp_path / f"llava-gateway-{os.getuid()}"
    assert (os.environ["HOME"], home.stat().st_mode & 0o777) == (str(home), 0o700)
    home.rmdir()
    home.symlink_to("/")
    cli.main()
    assert Path(os.environ["HOME"]).parent == tmp_path
    assert os.environ["HOME"] != str(home)
