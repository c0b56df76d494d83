"""The form of docs/own-form.md is the one that ships, and its policy plays."""

import re
from pathlib import Path

from emulator.policy import Policy
from emulator.testing import small_testbed

ROOT = Path(__file__).parents[3]
PAGE = (ROOT / "docs/own-form.md").read_text(encoding="utf-8")
FORM, *ATTACHMENT, POLICY = re.findall(r"```python\n(.*?)```", PAGE, flags=re.DOTALL)


def test_what_the_page_shows_is_what_ships() -> None:
    assert FORM in (ROOT / "emulator/forms/ia3.py").read_text(encoding="utf-8")
    attachment = (ROOT / "emulator/learning/attach/ia3.py").read_text(encoding="utf-8")
    assert len(ATTACHMENT) == 3
    assert [shown for shown in ATTACHMENT if shown not in attachment] == []


def test_its_policy_plays() -> None:
    names: dict[str, type[Policy]] = {}
    exec(POLICY, names)
    played = small_testbed(names["FedIa3"](), n_devices=4).play(2)
    assert [len(one.updates) for one in played] == [4, 4]
