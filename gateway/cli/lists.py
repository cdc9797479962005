"""The commands `profiles`, `settings`, `errors`, `metrics` and `parameters`, which print what there is."""

import sys

from rich.console import Console
from rich.table import Table

from engine_config import profile as profiles
from gateway import errors
from gateway.settings.page import page

PROFILES_WIDTH = 100


def list_profiles() -> None:
    """List the profiles."""
    table = Table()
    for title in ("profile", "model", "download"):
        table.add_column(title, no_wrap=True)
    table.add_column("what it is")
    for name in profiles.names():
        profile = profiles.load(name)
        size = f"{profile.download_gb:g} GB" if profile.download_gb else "none"
        table.add_row(name, profile.model, size, profile.summary)
    console = Console()
    console.width = max(
        console.width, PROFILES_WIDTH
    )  # A narrower terminal wraps lines; rich would cut names.
    console.print(table)


def list_settings() -> None:
    """Print every setting, as Markdown: the page docs/settings.md."""
    sys.stdout.write(page())


def list_errors() -> None:
    """Print every error with its status, code and meaning, as Markdown: the page docs/errors.md."""
    sys.stdout.write(errors.page())


def list_metrics() -> None:
    """Print every metric with its type, labels and meaning, as Markdown: the page docs/metrics.md."""
    from gateway.telemetry import families, metrics

    sys.stdout.write(families.page(metrics.Metrics().families, metrics.ENGINE))


def list_parameters() -> None:
    """Print how every field of a request is handled, as Markdown: the page docs/parameters.md."""
    from gateway.schema import parameters

    sys.stdout.write(parameters.page())
