"""The mutants of `make mutants` are what they say: one change each, and a program that still parses."""

import ast

from tests.each import each
from tools.mutants.mutations import Mutation, mutations

PROGRAM = '''"""A docstring of 7 words, which has no mutants."""

from typing import Final
from tests.each import each

LIMIT: Final = 5


def allowed(count: int, name: str = "é") -> bool:
    """Nor has this one, with 3."""
    if count < LIMIT and not name:
        raise ValueError(f"got {count + 1}")
    print(name)
    return count in (1, 2)
'''


def changes(source: str) -> set[tuple[str, str]]:
    return {(each.before, each.after) for each in mutations(source)}


def test_each_operator_constant_condition_and_call_is_changed_once() -> None:
    assert changes(PROGRAM) == {
        ("5", "6"),
        ("count < LIMIT and not name", "(count < LIMIT or not name)"),
        ("count < LIMIT", "(count <= LIMIT)"),
        ("not name", "(name)"),
        ('raise ValueError(f"got {count + 1}")', "pass"),
        ("count + 1", "(count - 1)"),
        ("1", "2"),
        ("print(name)", "pass"),
        ("return count in (1, 2)", "return None"),
        ("count in (1, 2)", "(count not in (1, 2))"),
        ("2", "3"),
    }


@each("mutation", list(mutations(PROGRAM)))
def test_a_mutant_is_a_program_that_differs_in_one_place(mutation: Mutation) -> None:
    applied = mutation.applied()
    assert ast.dump(ast.parse(applied)) != ast.dump(ast.parse(PROGRAM))
