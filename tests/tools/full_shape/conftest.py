"""One engine for this folder: two layers of each tower, in float32."""

import tempfile
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
from openai import AsyncOpenAI

from tests.prompt.llama import LlamaTokenizerJS
from tests.servers import Gateway
from tools.full_shape import files
from tools.full_shape.served import Plan, Served, serve
from tools.full_shape.shape import Shape

PLAN = Plan(Shape(layers=2, clip_layers=2), "float32", kv_gib=1)


@pytest.fixture(scope="session")
def shape_folder(llama_js: LlamaTokenizerJS) -> Iterator[Path]:
    """Yield the folder of a model of PLAN's shape; 1.4 GB, and so not left to pytest to remove some day."""
    with tempfile.TemporaryDirectory(prefix="llava-shape-") as folder:
        files.write(PLAN.shape, Path(folder), llama_js)
        yield Path(folder)


@pytest.fixture(scope="session")
def shape_gateway(shape_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    with serve(PLAN, shape_folder, tmp_path_factory.mktemp("shape")) as gateway:
        yield gateway


@pytest.fixture(scope="session")
async def served(shape_gateway: Gateway) -> AsyncIterator[Served]:
    async with AsyncOpenAI(base_url=shape_gateway.api, api_key="none", max_retries=0) as client:
        yield Served(PLAN, shape_gateway, client)
