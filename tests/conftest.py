"""Fixtures for all tests. `gateway` is the real engine, started once for the whole session."""

import signal
from collections.abc import Iterator
from contextlib import ExitStack

import hypothesis
import pytest
import structlog

from tests import watching
from tests.collector import Collector, collecting
from tests.prompt.llama import LlamaTokenizerJS
from tests.servers import Gateway, served_gateway

# A busy machine takes its time: what is too slow fails by pytest's timeout.
hypothesis.settings.register_profile("any machine", deadline=None)
hypothesis.settings.load_profile("any machine")


def pytest_configure() -> None:
    # Where a shell put us in the background it had us ignore Ctrl-C, which tests press.
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    # Not structlog's own choice, rich's tracebacks with every local variable: they take half a second each.
    plain = structlog.dev.ConsoleRenderer(colors=False, exception_formatter=structlog.dev.plain_traceback)
    structlog.configure(processors=[*structlog.get_config()["processors"][:-1], plain])


@pytest.fixture(autouse=True)
def _conformant() -> Iterator[None]:
    """Fail the test that saw an answer which is not OpenAI's to the letter."""
    yield
    found = list(watching.FOUND)
    watching.FOUND.clear()
    assert found == []


@pytest.fixture(autouse=True)
def _leaves_logs_as_they_were() -> Iterator[None]:
    """Fail a test that leaves structlog set up otherwise: later ones could log slow tracebacks."""
    before = structlog.get_config()
    yield
    assert structlog.get_config() == before


@pytest.fixture(scope="session")
def collector() -> Iterator[Collector]:
    """Yield the collector that `gateway` sends its spans to."""
    with collecting() as running:
        yield running


@pytest.fixture(scope="session")
def gateway(tmp_path_factory: pytest.TempPathFactory, collector: Collector) -> Iterator[Gateway]:
    """Yield a gateway on vLLM with the demo model that is traced; it may fetch images from this machine."""
    folder = tmp_path_factory.mktemp("gateway")
    with ExitStack() as stack:
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("NO_PROXY", "127.0.0.1")
            patch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", collector.url)
            running = stack.enter_context(served_gateway(folder, profile="demo", fetch_allow="127.0.0.1"))
        yield running


@pytest.fixture(scope="session")
def llama_js(pytestconfig: pytest.Config) -> LlamaTokenizerJS:
    cache = pytestconfig.cache
    assert cache is not None
    return LlamaTokenizerJS.install(cache.mkdir("llama-tokenizer-js"))
