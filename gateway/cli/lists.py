"""The commands `profiles`, `settings`, `errors`, `metrics` and `parameters`, which print lists."""

import sys

from rich.console import Console
from rich.table import Table

from engine_config import profile as profiles
from gateway import errors
from gateway.cli.common import dumped
from gateway.cli.options import Json
from gateway.settings.page import page

PROFILES_WIDTH = 100
PROFILE_FIELDS = ("name", "summary", "model", "served_name", "device", "download_gb", "compute_capability")


def list_profiles(*, json: Json = False) -> None:
    """List the profiles."""
    if json:
        found = [profiles.load(name) for name in profiles.names()]
        sys.stdout.write(dumped([{name: getattr(one, name) for name in PROFILE_FIELDS} for one in found]))
        return
    table = Table()
    for title in ("profile", "model", "download"):
        table.add_column(title, no_wrap=True)
    table.add_column("what it is")
    for name in profiles.names():
        profile = profiles.load(name)
        size = f"{profile.download_gb:g} GB" if profile.download_gb else "none"
        table.add_row(name, profile.model, size, profile.summary)
    console = Console()
    # A narrower terminal wraps lines; rich would cut names.
    console.width = max(console.width, PROFILES_WIDTH)
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
