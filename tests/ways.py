"""Ways in which policies differ where it matters to whatever carries them out, and a policy for each."""

from collections.abc import Callable, Collection

from emulator.policy.base import Policy
from emulator.policy.catalog import build_policy, policy_names
from emulator.testing import tiny_model


def ways_to_learn(last: Collection[str] = ()) -> list[str]:
    """Policies of which no earlier one has task, form and protocol alike; the others learn through the same code.

    Those of ``last`` come behind all others.
    """
    return _first_of_each(lambda policy: (), last)


def ways_to_run() -> list[str]:
    """Policies of which no earlier one has task, form, protocol and the place where updates are summed alike.

    What else a policy does, it does in the coordinator, where it cannot see on what its devices are trained; and the
    conformance suite checks of each what it must remember to go on.
    """
    return _first_of_each(lambda policy: (type(policy).aggregate is Policy.aggregate,))


def _first_of_each(more: Callable[[Policy], tuple[object, ...]], last: Collection[str] = ()) -> list[str]:
    found: dict[tuple[object, ...], str] = {}
    for name in sorted(policy_names(), key=lambda name: name in last):
        policy = build_policy(name, {})
        way = (policy.task, type(policy.form(tiny_model(4))), type(policy.protocol), *more(policy))
        found.setdefault(way, name)
    return list(found.values())
