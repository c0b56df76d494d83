"""The parts of the documentation that are generated: ``python -m tests.references`` writes them anew.

Each stands between two marks, ``<!-- name -->`` and ``<!-- /name -->``, in the page that it belongs to.
"""

import re
from collections.abc import Callable, Mapping
from pathlib import Path

from emulator.cli.settings_page import settings_tables
from emulator.results import schemas
from tests.floors import map_of_rooms

ROOT = Path(__file__).parents[1]

REFERENCES: Mapping[str, tuple[str, Callable[[], str]]] = {
    "rooms": ("ARCHITECTURE.md", map_of_rooms),
    "settings": ("docs/settings.md", settings_tables),
    "tables": ("docs/results.md", schemas.markdown),
}
"""By the name of its marks, the page of each and what writes it."""


def with_reference(page: str, name: str, text: str) -> str:
    """``page`` with ``text`` between the marks ``name``.

    Raises:
        ValueError: the page does not have both marks, once.
    """
    start, end = f"<!-- {name} -->\n", f"<!-- /{name} -->\n"
    if page.count(start) != 1 or page.count(end) != 1:
        raise ValueError(f"the page must have the marks {start.strip()} and {end.strip()}, each once")
    pattern = f"(?<={re.escape(start)}).*?(?={re.escape(end)})"
    return re.sub(pattern, lambda _: f"\n{text.strip()}\n\n", page, flags=re.DOTALL)


def main() -> None:
    """Write every reference into its page."""
    for name, (path, written) in REFERENCES.items():
        page = ROOT / path
        page.write_text(with_reference(page.read_text(encoding="utf-8"), name, written()), encoding="utf-8")


if __name__ == "__main__":
    main()
