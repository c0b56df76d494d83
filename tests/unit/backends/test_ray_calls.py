"""What a user can mend is raised as itself where a call of an actor failed, in one sentence; all else stays whole."""

from typing import Any

import pytest
import ray
from ray.exceptions import ObjectStoreFullError, OutOfDiskError, RayTaskError

from emulator.backends.ray_calls import first_line, result
from emulator.errors import UserError


@pytest.mark.parametrize("error", [OutOfDiskError("disk"), ObjectStoreFullError("store")])
def test_a_full_store_is_one_sentence(error: Exception, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(references: Any) -> Any:
        raise error

    monkeypatch.setattr(ray, "get", fail)
    with pytest.raises(UserError, match="set RAY_TMPDIR to a folder with more room"):
        result(None)


@pytest.mark.parametrize(
    ("error", "line"),
    [(ValueError("\n  first\nsecond"), "first"), (ValueError("one"), "one"), (TimeoutError(), "TimeoutError")],
)
def test_the_first_line_of_an_error_says_something(error: Exception, line: str) -> None:
    assert first_line(error) == line


@pytest.mark.parametrize(
    ("cause", "raised"),
    [
        (UserError("no such model"), UserError),
        (OSError(36, "File name too long", "a.csv"), OSError),
        (OSError("not about a file"), RayTaskError),
        (KeyError("bug"), RayTaskError),
    ],
)
def test_only_what_the_user_can_mend_is_raised_as_itself(
    monkeypatch: pytest.MonkeyPatch, cause: Exception, raised: type[Exception]
) -> None:
    def fail(references: object) -> None:
        raise RayTaskError("prepare", "the remote traceback", cause)

    monkeypatch.setattr(ray, "get", fail)
    with pytest.raises(raised) as caught:
        result([])
    assert (caught.value is cause) == (raised is not RayTaskError)
