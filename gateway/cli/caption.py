"""The command `caption`: one question about each image of a folder."""

from pathlib import Path
from typing import Annotated

import typer

from gateway.cli.caption_outputs import Format
from gateway.cli.common import errors, refused
from gateway.cli.options import LOCAL, APIKey, AtOnce, BaseURL, Model

PROMPT = "Describe the image."


def caption(
    folder: Annotated[Path, typer.Argument(exists=True, file_okay=False, help="A folder of images.")],
    *,
    prompt: Annotated[
        str | None, typer.Option(show_default=PROMPT, help="What to ask about each image.")
    ] = None,
    prompt_file: Annotated[
        Path | None, typer.Option(exists=True, dir_okay=False, help="Read the prompt from a file.")
    ] = None,
    prefix: Annotated[str, typer.Option(help="Text before each caption, such as a trigger word.")] = "",
    suffix: Annotated[str, typer.Option(help="Text after each caption.")] = "",
    formats: Annotated[
        list[Format] | None,
        typer.Option("--format", show_default="jsonl", help="Where captions go; repeat it for several."),
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option(
            dir_okay=False, show_default="FOLDER/captions.jsonl or .csv", help="The jsonl or csv file."
        ),
    ] = None,
    contact_sheet: Annotated[
        Path | None,
        typer.Option(dir_okay=False, help="Write an HTML page of all images with their captions."),
    ] = None,
    recursive: Annotated[bool, typer.Option(help="Also caption the folders below.")] = True,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Ask again about images that have a caption.")
    ] = False,
    base_url: BaseURL = LOCAL,
    model: Model = None,
    max_tokens: Annotated[int, typer.Option(min=1, help="Longest caption.")] = 256,
    at_once: AtOnce = 16,
    api_key: APIKey = "",
) -> None:
    """Caption a folder for a trainer or a photo library. If stopped, run it again to continue."""
    from gateway.cli import captions
    from gateway.cli.client import Server
    from gateway.cli.report import run_and_report

    if prompt is not None and prompt_file is not None:
        raise refused("--prompt-file: it cannot be given with --prompt")
    task = captions.CaptionTask(
        prompt=_read_prompt(prompt_file) if prompt_file else (prompt or PROMPT),
        prefix=prefix,
        suffix=suffix,
        formats=tuple(dict.fromkeys(formats or [Format.JSONL])),
        output=output,
        contact_sheet=contact_sheet,
        recursive=recursive,
        overwrite=overwrite,
        model=model,
        max_tokens=max_tokens,
    )
    server = Server(base_url, api_key, at_once)
    run_and_report(server, lambda tally: captions.run(folder, task, server, tally, errors), str(folder))


def _read_prompt(path: Path) -> str:
    try:
        text = path.read_text(encoding="utf-8-sig").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise refused(f"--prompt-file: {path}: {error}") from None
    if not text:
        raise refused(f"--prompt-file: {path}: it is empty")
    return text
