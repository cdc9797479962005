"""What an upgrade of vLLM would break silently: each test says what to change first."""

import importlib.util
import tomllib
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_pictures_that_the_engine_lost_are_forgotten_without_vllms_renderer() -> None:
    """vLLM 0.32 forgets them in AsyncLLM's output handler; 0.33 queues that for its renderer.

    The renderer drains the queue before it processes pictures, and `vllm_inputs.Inputs` bypasses it: every
    later request with such a picture would fail with a cache miss. With 0.33, have `Inputs.tensors` call
    the renderer's `_drain_mm_cache_invalidations` before it looks into the cache; then change this test.
    """
    spec = importlib.util.find_spec("vllm")
    assert spec is not None
    assert spec.origin is not None
    vllm = Path(spec.origin).parent
    assert "mm_processor_cache.invalidate(mm_hash)" in (vllm / "v1/engine/async_llm.py").read_text()
    assert "queue_mm_cache_invalidations" not in (vllm / "renderers/base.py").read_text()


def test_both_engines_are_one_version() -> None:
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    pins = [
        pin.partition("==")[2] for name in ("cpu", "gpu") for pin in extras[name] if pin.startswith("vllm")
    ]
    assert pins[0] == pins[1] == "0.32.0"
