"""vLLM is imported without audio; test_info checks that of a running gateway."""

import importlib
import importlib.util
import sys

import pytest

from gateway.engine import imports


def test_audio_is_missing_while_the_block_imports_and_there_afterwards(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(imports, "AUDIO", "wave")
    monkeypatch.delitem(sys.modules, "wave", raising=False)
    with imports.without_audio(), pytest.raises(ModuleNotFoundError):
        importlib.import_module("wave")
    wave = importlib.import_module("wave")
    with imports.without_audio():  # What is imported stays.
        assert importlib.import_module("wave") is wave
    assert sys.modules["wave"] is wave
