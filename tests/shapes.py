"""Pictures of one shape, which the demo model has a right answer for."""

import base64
import io

from engine_config.demo_model import scenes

GREY = (150, 150, 150)


def scene(kind: str, colour: str, x: float = 0.5, y: float = 0.5, radius: float = 0.18) -> scenes.Scene:
    shape = scenes.Shape(kind, colour, scenes.COLOURS[colour], x, y, radius)
    return scenes.Scene(1.0, 1.0, (GREY, GREY), 0, (shape,))


def encoded(kind: str, colour: str, side: int = 336, form: str = "png", x: float = 0.5) -> bytes:
    """Return a picture of one shape, `side` pixels wide and high."""
    buffer = io.BytesIO()
    scenes.draw(scene(kind, colour, x), side).save(buffer, form)
    return buffer.getvalue()


def data_url(kind: str, colour: str, side: int = 336, form: str = "png", x: float = 0.5) -> str:
    picture = base64.b64encode(encoded(kind, colour, side, form, x)).decode()
    return f"data:image/{form};base64,{picture}"
