"""What is generated in the documentation is what the source says now."""

import re

import pytest

from tests.references import REFERENCES, ROOT, with_reference


@pytest.mark.parametrize("name", REFERENCES)
def test_the_committed_reference_is_the_generated_one(name: str) -> None:
    path, written = REFERENCES[name]
    page = (ROOT / path).read_text(encoding="utf-8")

    assert page == with_reference(page, name, written()), "run: python -m tests.references"


def test_only_what_stands_between_the_marks_is_replaced() -> None:
    page = "before\n<!-- x -->\nold\n<!-- /x -->\nafter\n"

    assert with_reference(page, "x", "new\n") == "before\n<!-- x -->\n\nnew\n\n<!-- /x -->\nafter\n"


def test_a_page_without_its_marks_is_refused() -> None:
    with pytest.raises(ValueError, match=re.escape("<!-- x -->")):
        with_reference("before\n<!-- /x -->\n", "x", "new")


def decisions() -> list[str]:
    return sorted(path.name for path in (ROOT / "docs" / "decisions").glob("[0-9]*.md"))


def test_decisions_are_numbered_without_a_gap_and_listed_once_with_their_titles() -> None:
    listed = re.findall(
        r"^- \[(.+)\]\((\d.+\.md)\)$", (ROOT / "docs/decisions/index.md").read_text(), flags=re.MULTILINE
    )

    assert [int(name[:3]) for name in decisions()] == list(range(1, len(decisions()) + 1))
    assert sorted(name for _, name in listed) == decisions()
    for title, name in listed:
        assert (ROOT / "docs" / "decisions" / name).read_text(encoding="utf-8").splitlines()[0] == f"# {title}"
