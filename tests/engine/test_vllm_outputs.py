"""What vLLM's errors are to a client."""

import importlib
from typing import Any

import pytest

from gateway.errors import EngineDied, GatewayError, GenerationFailed, InvalidValue

pytestmark = [pytest.mark.engine, pytest.mark.filterwarnings("ignore::DeprecationWarning")]


@pytest.fixture(scope="module")
def outputs() -> Any:
    return importlib.import_module("gateway.engine.vllm_outputs")  # it imports vLLM


@pytest.mark.parametrize(("begun", "kind"), [(False, InvalidValue), (True, GenerationFailed)])
def test_only_an_answer_that_has_not_begun_can_be_refused(
    outputs: Any, begun: bool, kind: type[GatewayError]
) -> None:
    assert type(outputs.translated(ValueError("x"), begun=begun)) is kind


def test_an_engine_can_die_at_any_time(outputs: Any) -> None:
    assert type(outputs.translated(outputs.EngineDeadError(), begun=True)) is EngineDied
