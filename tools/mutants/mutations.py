"""Small changes to a program: one operator, constant, condition or call at a time."""

import ast
from collections.abc import Iterator
from dataclasses import dataclass

_COMPARISONS: dict[type[ast.cmpop], type[ast.cmpop]] = {
    ast.Lt: ast.LtE,
    ast.LtE: ast.Lt,
    ast.Gt: ast.GtE,
    ast.GtE: ast.Gt,
    ast.Eq: ast.NotEq,
    ast.NotEq: ast.Eq,
    ast.In: ast.NotIn,
    ast.NotIn: ast.In,
    ast.Is: ast.IsNot,
    ast.IsNot: ast.Is,
}
_ARITHMETIC: dict[type[ast.operator], type[ast.operator]] = {
    ast.Add: ast.Sub,
    ast.Sub: ast.Add,
    ast.Mult: ast.FloorDiv,
    ast.FloorDiv: ast.Mult,
    ast.Div: ast.Mult,
    ast.Mod: ast.Add,
    ast.BitOr: ast.BitAnd,
    ast.BitAnd: ast.BitOr,
}


@dataclass(frozen=True, slots=True)
class Mutation:
    """`source` with `before` replaced by `after`, from the position `start` to `end`, in characters."""

    source: str
    line: int
    start: int
    end: int
    after: str

    @property
    def before(self) -> str:
        return self.source[self.start : self.end]

    def applied(self) -> str:
        return self.source[: self.start] + self.after + self.source[self.end :]


def mutations(source: str) -> Iterator[Mutation]:
    """Yield every mutation of a module. Annotations, docstrings and `__all__` have none."""
    tree = ast.parse(source)
    lines = source.splitlines(keepends=True)
    offsets = [0]
    for line in lines:
        offsets.append(offsets[-1] + len(line))

    def position(line: int, column: int) -> int:
        # Columns of `ast` count bytes of UTF-8.
        return offsets[line - 1] + len(lines[line - 1].encode()[:column].decode())

    for node in _program(tree):
        for after in _changes(node):
            assert node.end_lineno is not None
            assert node.end_col_offset is not None
            start = position(node.lineno, node.col_offset)
            end = position(node.end_lineno, node.end_col_offset)
            yield Mutation(source, node.lineno, start, end, after)


def _program(node: ast.AST) -> Iterator[ast.expr | ast.stmt]:
    """Yield the nodes that run: no annotations, and no decorators, which the tests' import would break."""
    for name, value in ast.iter_fields(node):
        if name in ("annotation", "returns", "decorator_list", "type_params"):
            continue
        for child in value if isinstance(value, list) else [value]:
            if isinstance(child, ast.expr | ast.stmt):
                yield child
            if isinstance(child, ast.AST):
                yield from _program(child)


def _changes(node: ast.expr | ast.stmt) -> Iterator[str]:
    """Yield what may stand in the place of `node`."""
    match node:
        case ast.Constant():
            yield from _constants(node.value)
        case ast.expr():
            yield from map(_wrapped, _expressions(node))
        case ast.Expr(ast.Call() | ast.Await()) | ast.Raise():
            yield "pass"
        case ast.Return(ast.expr() as value) if not isinstance(value, ast.Constant):
            yield "return None"


def _constants(value: object) -> Iterator[str]:
    match value:
        case bool():
            yield repr(not value)
        case int():
            yield repr(value + 1)
        case float():
            yield repr(value * 2 + 1)


def _expressions(node: ast.expr) -> Iterator[ast.expr]:
    match node:
        case ast.Compare(left, [operator, *more], [right, *rest]) if type(operator) in _COMPARISONS:
            yield ast.Compare(left, [_COMPARISONS[type(operator)](), *more], [right, *rest])
        case ast.BoolOp(operator, values):
            yield ast.BoolOp(ast.Or() if isinstance(operator, ast.And) else ast.And(), values)
        case ast.BinOp(left, operator, right) if type(operator) in _ARITHMETIC:
            if not (_is_text(left) or _is_text(right)):
                yield ast.BinOp(left, _ARITHMETIC[type(operator)](), right)
        case ast.UnaryOp(ast.Not(), operand):
            yield operand
        case ast.IfExp(test, body, orelse):
            yield ast.IfExp(test, orelse, body)


def _is_text(node: ast.expr) -> bool:
    return isinstance(node, ast.JoinedStr) or isinstance(getattr(node, "value", None), str)


def _wrapped(node: ast.expr) -> str:
    return f"({ast.unparse(node)})"
