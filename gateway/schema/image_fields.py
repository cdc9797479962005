"""Whether an unknown field of a message looks like a picture, which must not be ignored."""

import re
from typing import Any, Final

# Names under which programs send pictures and other files, in the singular and without `_` and `-`.
_NAMES: Final = re.compile(
    r"((input|base64|raw|experimental|inline|local)?"
    r"(image|img|picture|pic|photo|screenshot|frame|thumbnail|attachment|file|media|video|audio|document|pdf)"
    r"(url|uri|data|path|file|base64|b64|byte|content|id|input|list)?"
    r"|b64json|inlinedata|blob)s?"
)
# How data URLs and the base64 of JPEG, PNG, GIF, WebP and BMP begin.
_VALUES: Final = re.compile(r"data:|/9j/|iVBORw0KGgo|R0lGOD|UklGR|Qk[0-9A-Za-z+/]{100}")


def looks_like_a_picture(name: str, value: Any) -> bool:
    """Say whether the field `name` with `value` looks like a picture or another file."""
    holds_something = isinstance(value, str | list | dict) and bool(value)
    plain = name.lower().replace("_", "").replace("-", "")
    return holds_something and (_NAMES.fullmatch(plain) is not None or _holds_one(value))


def _holds_one(value: Any) -> bool:
    """Say whether there is a picture's text anywhere in `value`."""
    left = [value]
    while left:
        each = left.pop()
        if isinstance(each, str) and _VALUES.match(each):
            return True
        if isinstance(each, dict):
            left += each.values()
        elif isinstance(each, list):
            left += each
    return False
