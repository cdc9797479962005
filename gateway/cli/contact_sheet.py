"""Writes an HTML page of images with their captions, to look results through."""

import base64
import io
import os
from collections.abc import Iterable, Mapping
from html import escape
from pathlib import Path
from typing import Final
from urllib.parse import quote

from gateway.cli.atomic import write_atomically
from gateway.cli.caption_outputs import ImageFile

BROWSERS_SHOW: Final = frozenset({".avif", ".bmp", ".gif", ".jpeg", ".jpg", ".png", ".webp"})
THUMBNAIL: Final = (320, 320)

PAGE: Final = """<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width">
<title>Captions</title>
<style>
  :root {{ color-scheme: light dark; font: 15px/1.45 system-ui, sans-serif }}
  body {{ margin: 1rem }}
  header {{ position: sticky; top: 0; padding: .5rem 0; background: Canvas }}
  input {{ font: inherit; width: min(30rem, 100%); padding: .4rem }}
  main {{ display: grid; gap: 1rem; grid-template-columns: repeat(auto-fill, minmax(15rem, 1fr)) }}
  figure {{ margin: 0; padding: .5rem; border: 1px solid #8886; border-radius: .4rem }}
  figure[hidden] {{ display: none }}
  img {{ width: 100%; height: 14rem; object-fit: contain }}
  small {{ display: block; opacity: .7; overflow-wrap: anywhere }}
  .failed {{ border-color: #c33 }}
  .failed p {{ color: #c33 }}
</style>
<header>
  <p>{summary}</p>
  <input type="search" placeholder="Find in names and captions" aria-label="Find in names and captions">
</header>
<main>
{figures}</main>
<script>
  document.querySelector("input").addEventListener("input", (event) => {{
    const words = event.target.value.toLowerCase();
    for (const figure of document.querySelectorAll("figure"))
      figure.hidden = !figure.textContent.toLowerCase().includes(words);
  }});
</script>
</html>
"""


def write_sheet(
    path: Path, images: Iterable[ImageFile], captions: Mapping[str, str], problems: Mapping[str, str]
) -> None:
    """Write the page: images that failed first, then the others by name. Raises OSError."""
    ordered = sorted(images, key=lambda image: image.name not in problems)
    figures = (_figure(path, image, captions.get(image.name), problems.get(image.name)) for image in ordered)
    missing = len(ordered) - len(captions) - len(problems)
    counts = [f"{len(captions)} captions"]
    counts += [f"{len(problems)} failed"] if problems else []
    counts += [f"{missing} without a caption yet"] if missing else []
    page = PAGE.format(summary=escape(", ".join(counts)), figures="".join(figures))
    write_atomically(path, page.encode(errors="replace"))


def _figure(page: Path, image: ImageFile, caption: str | None, problem: str | None) -> str:
    failed = ' class="failed"' if problem is not None else ""
    text = caption if problem is None else problem
    return (
        f'<figure{failed}><img loading="lazy" alt="" src="{escape(_source(page, image.path))}">'
        f"<p>{escape(text or 'no caption yet')}</p><small>{escape(image.name)}</small></figure>\n"
    )


def _source(page: Path, image: Path) -> str:
    """Return the image's URL, relative to the page; a small copy of it if browsers do not show its format."""
    if image.suffix.lower() not in BROWSERS_SHOW and (small := _thumbnail(image)):
        return f"data:image/jpeg;base64,{base64.b64encode(small).decode()}"
    return quote(os.fsencode(os.path.relpath(image, page.parent)))


def _thumbnail(image: Path) -> bytes | None:
    import pillow_heif
    from PIL import Image

    pillow_heif.register_heif_opener()
    buffer = io.BytesIO()
    try:
        with Image.open(image) as opened:
            opened.thumbnail(THUMBNAIL)
            opened.convert("RGB").save(buffer, "jpeg")
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError):
        return None
    return buffer.getvalue()
