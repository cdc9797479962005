"""The matrix in short: OpenAI's package for JavaScript on the session's engine.

`make clients` runs all of it.
"""

import re
import shlex

import pytest

from tests.each import each
from tests.servers import Gateway
from tests.snippets import blocks
from tools.clients.__main__ import find, install, show
from tools.clients.catalogue import CASES, CLIENTS, Client
from tools.clients.page import PAGE, README, short, table
from tools.clients.snippets import RUN, section

SHORT = "openai (JavaScript)"  # Other tests use the package for Python all the time.


@pytest.mark.engine
def test_openais_package_for_javascript_finds_nothing_missing(gateway: Gateway) -> None:
    (client,) = (client for client in CLIENTS if client.name == SHORT)
    install(client)
    # This gateway asks for no key, so the program's 401 is not among what it shows.
    assert {case: told for case, told in show(client, gateway).items() if case != "errors"} == {
        case: "yes" for case in CASES if case != "errors"
    }


def test_the_page_has_a_row_for_each_client() -> None:
    rows = [line for line in PAGE.read_text().splitlines() if line.startswith("| ") and "(`" in line]
    assert [row.partition("`)")[0] for row in rows] == [
        f"| {client.name} (`{client.packages[0]}" for client in CLIENTS
    ]


@each("client", CLIENTS)
def test_the_page_has_a_snippet_for_each_client(client: Client) -> None:
    text = section(client)
    installer = "pip" if client.kind == "python" else "npm"
    packages = {re.split("==|@[0-9]", package)[0] for package in client.packages}
    installed = re.search(rf"^`{installer} install (.*)`$", text, re.MULTILINE)
    assert installed is not None
    assert set(shlex.split(installed[1])) <= packages
    assert "http://127.0.0.1:8000/v1" in text
    assert [language for language, _ in blocks(text) if language in RUN]


def test_a_client_is_found_by_its_name_and_by_its_folders() -> None:
    assert find([]) == CLIENTS
    assert [find([client.name]) for client in CLIENTS] == [[client] for client in CLIENTS]
    assert [client.name for client in find(["ai-sdk", "openai-javascript"])] == [
        "AI SDK",
        "openai (JavaScript)",
    ]
    with pytest.raises(
        LookupError, match=r"no such client: 'gpt'; there are 'openai', 'openai 2', .*'AI SDK'$"
    ):
        find(["openai", "gpt"])


def test_the_readme_names_each_client_that_the_page_has() -> None:
    passed = {client.name: dict.fromkeys(CASES, "yes") for client in CLIENTS}
    assert f"| Python | JavaScript |\n| --- | --- |\n{short(passed)}" in README.read_text()
    failed = short(passed | {"openai 2": passed["openai"] | {"tool": "ValueError: x"}})
    assert failed.startswith("| openai 3.57.0, openai 2.8.0 (not: tool), langchain-openai 1.7.4, ")


def test_the_page_says_which_clients_make_test_runs() -> None:
    assert f"`make test` runs {SHORT}." in PAGE.read_text()


def test_what_failed_is_told_and_what_was_not_shown_is_left_empty_or_explained() -> None:
    told = table({"llm": {"whole": "yes", "streamed": "ValueError: x"}}).splitlines()
    assert told[2] == "| llm (`llm==0.36`) | yes | **no** |  |  | –¹ |  |  |"
    assert told[-1].startswith("¹ llm, tool: ")


def test_the_page_has_no_cell_without_an_answer() -> None:
    rows = [line for line in PAGE.read_text().splitlines() if line.startswith("| ") and "(`" in line]
    cells = {cell.strip() for row in rows for cell in row.split("|")[2:-1]}
    assert cells <= {"yes", "–¹"}
