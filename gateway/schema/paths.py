"""Formats field paths and values for error messages."""

SHOWN = 60  # characters of a bad value that an error repeats


def path(location: tuple[int | str, ...]) -> str:
    """Return the path of a field as OpenAI writes it: `messages[0].content[1].image_url`."""
    written = ""
    for step in location:
        if isinstance(step, int):
            written += f"[{step}]"
        else:
            written += f".{short(step)}" if written else short(step)
    return written


def short(text: str) -> str:
    """Return `text`, shortened if it is long, so that errors never repeat a client's long text."""
    return text if len(text) <= SHOWN else f"{text[:SHOWN]}… ({len(text)} characters)"
