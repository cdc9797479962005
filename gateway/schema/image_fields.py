"""Detects unknown fields of a message that look like an image, which must not be ignored."""

import re
from typing import Any, Final

# Names under which programs send images and other files, in the singular and without `_` and `-`.
_NAMES: Final = re.compile(
    r"((input|base64|raw|experimental|inline|local)?"
    r"(image|img|picture|pic|photo|screenshot|frame|thumbnail|attachment|file|media|video|audio|document|pdf)"
    r"(url|uri|data|path|file|base64|b64|byte|content|id|input|list)?"
    r"|b64json|inlinedata|blob)s?"
)
# The first characters of data URLs and of the base64 of JPEG, PNG, GIF, WebP and BMP.
_VALUES: Final = re.compile(r"data:|/9j/|iVBORw0KGgo|R0lGOD|UklGR|Qk[0-9A-Za-z+/]{100}")


def looks_like_an_image(name: str, value: Any) -> bool:
    """Return whether the field `name` with `value` looks like an image or another file."""
    not_empty = isinstance(value, str | list | dict) and bool(value)
    plain = name.lower().replace("_", "").replace("-", "")
    return not_empty and (_NAMES.fullmatch(plain) is not None or _contains_image(value))


def _contains_image(value: Any) -> bool:
    """Return whether a string anywhere in `value` starts like an encoded image."""
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
