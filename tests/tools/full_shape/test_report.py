"""What `make full-shape` says before it begins and when it is through."""

from datetime import date
from pathlib import Path

import pytest

from tools.full_shape import room
from tools.full_shape.measure import Checked, Speed, checked
from tools.full_shape.report import Found, page
from tools.full_shape.room import NoRoom, Room
from tools.full_shape.served import Plan, Served
from tools.full_shape.shape import Shape

REAL = Plan(Shape(), "bfloat16", kv_gib=3)


def test_the_shape_has_the_7b_s_parameters() -> None:
    assert REAL.shape.parameters == 7_063_427_072


@pytest.mark.parametrize("shape", [Shape(), Shape(layers=2, clip_layers=2)])
def test_the_sizes_of_its_tensors_are_those_that_plans_are_made_with(shape: Shape) -> None:
    assert shape.known.parameters == shape.parameters


def test_it_needs_21_gb_and_more_where_the_weights_lie_in_memory_too() -> None:
    need = room.needed(REAL, disk_is_memory=False)
    assert round(need.memory / 1e9) == 21
    assert need.disk == 14_126_854_144
    assert room.needed(REAL, disk_is_memory=True).memory == need.memory + need.disk


def test_what_is_too_little_is_said_with_the_numbers() -> None:
    need, folder = Room(21 * 10**9, 14 * 10**9), Path("/somewhere")
    have = Room(22 * 10**9, 15 * 10**9)
    assert room.compare(need, have, folder) == (
        "it needs 21.0 GB of memory and 14.0 GB of disk; free are 22.0 GB of memory and 15.0 GB of disk "
        "in /somewhere"
    )
    with pytest.raises(NoRoom, match=r"^too little memory: it needs 21\.0 GB .* free are 20\.0 GB of memory"):
        room.compare(need, Room(20 * 10**9, 15 * 10**9), folder)
    with pytest.raises(NoRoom, match=r"^too little disk: .* 13\.0 GB of disk in /somewhere \(TMPDIR"):
        room.compare(need, Room(22 * 10**9, 13 * 10**9), folder)


def test_files_in_dev_shm_lie_in_memory() -> None:
    assert room.is_memory(Path("/dev/shm"))
    assert not room.is_memory(Path("/proc"))


def test_the_page_tells_every_figure_and_what_failed() -> None:
    found = Found(
        plan=REAL,
        made=61.2,
        ready=58.1,
        speed=Speed(prompt_tokens=597, first_token=19.04, tokens_per_second=2.512),
        kv_tokens=6144,
        kv_planned=6200,
        memory={"gateway": 700_000_000, "engine": 18_300_000_000},
        checks=[Checked("usage is the engine's own count", 1.2, None), Checked("x is y", 2.0, "it is z")],
    )
    text = page(found, "make full-shape", date(2026, 11, 24))
    for line in (
        "This page was written on 2026-11-24 by `make full-shape`",
        "| weights made and written | 14.1 GB in 61 s |",
        "| from the command to ready | 58 s |",
        "| first token of a 597-token prompt with one image | 19.0 s |",
        "| tokens per second after it | 2.51 |",
        "| KV cache, as vLLM reports it | 6144 tokens; planned: 6200 |",
        "| memory | 19.0 GB (gateway 0.7, engine 18.3) |",
        "| usage is the engine's own count | 1 | passed |",
        "| x is y | 2 | it is z |",
    ):
        assert line in text
    assert found.failed


async def test_a_check_that_fails_is_told_and_the_others_run(monkeypatch: pytest.MonkeyPatch) -> None:
    ran = []

    async def good(_: Served) -> None:
        ran.append("good")

    async def bad(_: Served) -> None:
        raise AssertionError("it is z")

    monkeypatch.setattr("tools.full_shape.measure.CHECKS", {"x is y": bad, "all is well": good})
    told = await checked(None)  # type: ignore[arg-type]  # these checks ask nothing of it
    assert [(check.promise, check.failure) for check in told] == [
        ("x is y", "AssertionError: it is z"),
        ("all is well", None),
    ]
    assert ran == ["good"]
