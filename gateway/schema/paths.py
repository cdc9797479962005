"""How errors name a field and show a value."""

SHOWN = 60  # characters of a bad value that an error repeats


def path(location: tuple[int | str, ...]) -> str:
    """Return where a field is, as OpenAI writes it: `messages[0].content[1].image_url`."""
    written = ""
    for step in location:
        if isinstance(step, int):
            written += f"[{step}]"
        else:
            written += f".{short(step)}" if written else short(step)
    return written


def short(text: str) -> str:
    """Return `text`, or its beginning where it is long: what a client sent is not sent back at any length."""
    return text if len(text) <= SHOWN else f"{text[:SHOWN]}… ({len(text)} characters)"
