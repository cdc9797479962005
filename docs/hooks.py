"""What `make docs` adds to mkdocs: pages that live outside docs/, and links that leave the site."""

import re
from pathlib import Path, PurePosixPath
from posixpath import normpath, relpath
from typing import Any

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

ROOT = Path(__file__).parents[1]
# page of the site: file of the repository
OUTSIDE = {
    "index.md": "README.md",
    "contributing.md": "CONTRIBUTING.md",
    "security.md": "SECURITY.md",
    "changelog.md": "CHANGELOG.md",
    "deploy.md": "deploy/README.md",
}
LINK = re.compile(r"(!?)\[([^\]]+)\]\(([^)#\s]+)((?:#[^)]*)?)\)")


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """Put pages that the nav does not name at its end, so that none is out of reach."""
    assert config.nav is not None
    named = str(config.nav)
    pages = (path.relative_to(config.docs_dir).as_posix() for path in Path(config.docs_dir).rglob("*.md"))
    if more := sorted(page for page in pages if f"'{page}'" not in named):
        config.nav.append({"More": more})
    return config


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the pages from outside."""
    for page, source in OUTSIDE.items():
        files.append(File.generated(config, page, content=(ROOT / source).read_text()))
    return files


def on_page_markdown(markdown: str, page: Page, files: Files, **_: Any) -> str:
    """Lead links to pages of the site; what is only in the repository becomes its path."""
    site = page.file.src_uri
    source = OUTSIDE.get(site, f"docs/{site}")
    pages = {path: name for name, path in OUTSIDE.items()}

    def rewritten(link: re.Match[str]) -> str:
        image, text, target, anchor = link.groups()
        if "://" in target:
            return link[0]
        path = normpath(str(PurePosixPath(source).parent / target))
        name = pages.get(path, path.removeprefix("docs/"))
        found = files.get_file_from_path(name)
        if (
            found is not None
            and found.inclusion.is_included()
            and (path in pages or path.startswith("docs/"))
        ):
            return f"{image}[{text}]({relpath(name, str(PurePosixPath(site).parent))}{anchor})"
        if image or not (ROOT / path).exists():
            return link[0]  # mkdocs warns of it.
        return f"`{path}`" if text.strip("`/") in path else f"{text} (`{path}`)"

    return LINK.sub(rewritten, markdown)
