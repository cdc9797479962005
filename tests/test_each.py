"""A test of many rows tries them all and names those that fail."""

import asyncio

import pytest

from tests.each import each


def test_every_row_that_fails_is_named_and_the_others_are_tried() -> None:
    tried = []

    @each("number", [1, 2, 3, 4])
    @each(("text", "size"), [("a", 1), ("bb", 2)])
    def even(number: int, text: str, size: int) -> None:
        tried.append((number, text))
        assert number % 2 == 0, f"{number} is odd"
        with pytest.raises(ValueError, match="odd"):
            raise ValueError("odd" if size == 1 or number == 4 else "even")

    with pytest.raises(AssertionError) as failed:
        even()
    assert len(tried) == 8
    said = str(failed.value)
    assert said.startswith(
        "3 of 4 rows failed\nnumber='1': AssertionError: 2 of 2 rows failed\ntext='a', size='1': "
    )
    assert "number='2': AssertionError: 1 of 2 rows failed\ntext='bb', size='2': " in said
    assert "number='4'" not in said


def test_a_coroutine_is_awaited_for_every_row() -> None:
    @each("number", [1, 2])
    async def fails(number: int) -> None:
        await asyncio.sleep(0)
        pytest.fail(f"so does {number}")

    with pytest.raises(AssertionError, match=r"2 of 2 rows failed\n.*so does 1\n.*so does 2"):
        asyncio.run(fails())


@each("number", [3])
def test_fixtures_are_given(number: int, request: pytest.FixtureRequest) -> None:
    assert (number, request.node.name) == (3, "test_fixtures_are_given")


def test_a_table_without_rows_is_a_mistake() -> None:
    with pytest.raises(AssertionError, match="without rows"):
        each("number", [])
