"""Without API keys, pages of other sites can neither send nor read anything through a visitor's browser."""

import orjson
import pytest
from starlette.datastructures import Headers

from gateway.api.browsers import BrowserGuard
from gateway.errors import GatewayError
from gateway.settings import Settings
from tests.api.asking import ask, send
from tests.scripted_engine import ScriptedEngine
from tests.servers import Gateway, scripted_gateway

EVIL = "http://evil.example"
FILES = "/v1/files"
FORM = {"purpose": (None, "user_data"), "file": ("x.txt", b"mine")}


def refused(
    settings: Settings,
    host: str,
    method: str = "GET",
    headers: dict[str, str] | None = None,
    *,
    keyed: bool = False,
) -> str | None:
    """Return the code of the error that a request with `headers` gets, None if it may pass."""
    try:
        BrowserGuard(settings, keyed=keyed).check(method, FILES, Headers({"host": host, **(headers or {})}))
    except GatewayError as error:
        return error.code
    return None


OWN = (
    "localhost LOCALHOST:8000 localhost.:80 a.localhost:1 127.0.0.1:8000 127.9.9.9 [::1]:8000 "
    "[::ffff:127.0.0.1] chat.lan:9000"
)
OTHER = (
    "evil.example localhost.evil.example:8000 127.0.0.1.evil.example 192.168.1.5:8000 [::2]:80 "
    "evillocalhost [ localhost@evil.example 2130706433 evil.chat.lan"
)


def test_a_loopback_or_listed_host_may_ask_and_no_other() -> None:
    settings = Settings(allowed_hosts=("chat.lan",))
    for host in (*OWN.split(), ""):
        assert refused(settings, host) is None, host
    for host in OTHER.split():
        assert refused(settings, host) == "host_not_allowed", host


def test_hosts_are_checked_on_loopback_without_keys_or_where_they_are_listed() -> None:
    lan, listed = Settings(host="0.0.0.0"), ("chat.lan",)
    assert refused(Settings(), "evil.example") == "host_not_allowed"
    assert refused(Settings(), "evil.example", keyed=True) is None
    assert refused(lan, "evil.example") is None
    assert refused(lan.model_copy(update={"allowed_hosts": listed}), "evil.example") == "host_not_allowed"
    assert refused(Settings(allowed_hosts=listed), "evil.example", keyed=True) == "host_not_allowed"
    assert refused(Settings(allowed_hosts=("*",)), "evil.example") is None


@pytest.mark.parametrize(
    ("method", "headers", "code"),
    [
        ("POST", {}, None),  # a program, not a browser
        ("GET", {"origin": EVIL, "sec-fetch-site": "cross-site"}, None),  # reading is the browser's to forbid
        ("POST", {"origin": EVIL, "sec-fetch-site": "cross-site"}, "origin_not_allowed"),
        ("POST", {"sec-fetch-site": "same-site"}, "origin_not_allowed"),  # another port of this machine
        ("POST", {"origin": "http://localhost:8000", "sec-fetch-site": "same-origin"}, None),
        ("POST", {"sec-fetch-site": "none"}, None),
        ("POST", {"origin": "http://localhost:8000"}, None),  # a browser that sends no Sec-Fetch-Site
        ("POST", {"origin": "http://localhost:3000"}, "origin_not_allowed"),
        ("DELETE", {"origin": EVIL}, "origin_not_allowed"),
        ("PUT", {"origin": "null"}, "origin_not_allowed"),
        ("POST", {"origin": "https://chat.lan", "sec-fetch-site": "cross-site"}, None),  # listed
    ],
)
def test_a_page_of_another_origin_may_change_nothing_unless_it_is_listed(
    method: str, headers: dict[str, str], code: str | None
) -> None:
    for host in ("127.0.0.1", "0.0.0.0"):
        settings = Settings(host=host, cors_origins=("https://chat.lan",))
        assert refused(settings, "localhost:8000", method, headers) == code
    assert refused(settings, "localhost:8000", method, headers, keyed=True) is None
    everybody = Settings(cors_origins=("*",))
    assert refused(everybody, "localhost:8000", method, headers) is None


async def test_a_form_of_another_sites_page_stores_nothing_and_says_why(served: Gateway) -> None:
    before = (await send(served, "GET", FILES)).body
    for path in (FILES, "/files", "/v1/batches/batch_1/cancel", "/tokenize"):
        answer = await send(served, "POST", path, files=FORM, headers={"origin": EVIL})
        assert (answer.status, answer.error["code"]) == (403, "origin_not_allowed")
    assert answer.error["message"] == (
        "without API keys, a page of another origin may send POST only if its origin is in "
        f'GATEWAY_CORS_ORIGINS; got Origin "{EVIL}"'
    )
    assert (await send(served, "GET", FILES)).body == before


async def test_a_rebound_name_reads_no_file_but_health_answers() -> None:
    async with scripted_gateway(ScriptedEngine()) as gateway:
        stored = orjson.loads((await send(gateway, "POST", FILES, files=FORM)).body)["id"]
        for path in (f"{FILES}/{stored}/content", FILES, "/v1/models", "/metrics", "/"):
            answer = await send(gateway, "GET", path, headers={"host": "evil.example:8000"})
            assert (answer.status, answer.error["code"]) == (403, "host_not_allowed")
        assert (await ask(gateway, host="evil.example")).status == 403
        live = await send(gateway, "GET", "/health/live", headers={"host": "evil.example"})
        content = await send(gateway, "GET", f"{FILES}/{stored}/content")
    assert (live.status, content.body) == (200, b"mine")
