"""Pages of the site that lie elsewhere in the repository, and links to its files; a hook of MkDocs.

A link in any page is written as it must be in the repository. Pages outside ``docs/`` are part of the site under their
own path, and so is every other file that a page links to: a page shows its text.
"""

import posixpath
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

ROOT = Path(__file__).parents[1]
PAGES = (
    "ARCHITECTURE.md",
    "CHANGELOG.md",
    "CONTRIBUTING.md",
    "benchmarks/README.md",
    "benchmarks/systems.md",
    "device_profiles/README.md",
    "emulator/learning/builtin/README.md",
    "policies/README.md",
)
"""Pages of the site outside ``docs/``."""

SHOWN = {".py": "python", ".toml": "toml", ".txt": "text", ".csv": "text", ".ipynb": "json"}
"""Files that are shown on a page, by the end of their names, with their language."""

LINK = re.compile(r"(?<=\]\()(?![a-z]+:|#)([^)#\s]+)(#[^)\s]*)?(?=\))")


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """Leave out what is not written yet, and put every decision below their index."""
    decisions = sorted(path.name for path in (ROOT / "docs" / "decisions").glob("[0-9]*.md"))
    for part in config.nav or []:
        for section, entries in part.items() if isinstance(part, dict) else ():
            if isinstance(entries, list):
                part[section] = [entry for entry in entries if _is_there(entry)]
                if section == "Develop":
                    at = part[section].index({"Decisions": "decisions/index.md"})
                    pages = ["decisions/index.md", *(f"decisions/{name}" for name in decisions), "decisions/refused.md"]
                    part[section][at] = {"Decisions": pages}
    return config


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the pages outside ``docs/``, and what any page links to."""
    for path in PAGES:
        files.append(File.generated(config, path, content=(ROOT / path).read_text(encoding="utf-8")))
    for page in [*files.documentation_pages()]:
        for path in _linked(_home(page.src_uri), page.content_string):
            if _site_path(path) not in files.src_uris and (ROOT / path).suffix in SHOWN:
                files.append(File.generated(config, f"{path}.md", content=_listing(path)))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Turn links between files of the repository into links between pages of the site."""
    uri = page.file.src_uri
    if uri not in PAGES and not (ROOT / "docs" / uri).is_file():
        return markdown  # a file that is shown

    def rewritten(link: re.Match[str]) -> str:
        path = _site_path(_target(_home(uri), link[1]))
        path = path if path in files.src_uris else f"{path}.md"
        return posixpath.relpath(path, posixpath.dirname(uri) or ".") + (link[2] or "")

    return LINK.sub(rewritten, markdown)


def on_page_content(html: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Write what docstrings say in reStructuredText, :class:`Name` and a double colon, as one reads it."""
    html = re.sub(r":(?:attr|class|data|func|meth|mod):<code>~?([^<]+)</code>", r"<code>\1</code>", html)
    return html.replace("Example::</p>", "Example:</p>")


def _is_there(entry: Any) -> bool:
    path = next(iter(entry.values())) if isinstance(entry, dict) else entry
    return path in PAGES or (ROOT / "docs" / path).is_file()


def _home(uri: str) -> str:
    """The place in the repository of a page of the site."""
    return uri if uri in PAGES else f"docs/{uri}"


def _target(home: str, link: str) -> str:
    return posixpath.normpath(posixpath.join(posixpath.dirname(home), link))


def _site_path(path: str) -> str:
    return path.removeprefix("docs/")


def _linked(home: str, text: str) -> Iterator[str]:
    """The files of the repository that a page links to."""
    for link in LINK.finditer(text):
        path = _target(home, link[1])
        if (ROOT / path).is_file():
            yield path


def _listing(path: str) -> str:
    text = (ROOT / path).read_text(encoding="utf-8")
    return f"---\nhide: [toc]\n---\n\n# {path}\n\n````{SHOWN[Path(path).suffix]}\n{text}````\n"
