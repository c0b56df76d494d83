"""For the tests of policies, those of third parties too: a conformance suite, and testbeds of a few devices.

Example::

    from emulator.testing import PolicyConformance

    class TestMine(PolicyConformance):
        def policy(self):
            return Mine(rank=4)
"""

from emulator.testing.errors import ConformanceError
from emulator.testing.exact_testbed import exact_testbed
from emulator.testing.policy_conformance import PolicyConformance
from emulator.testing.small_testbed import PlayedRound, SmallTestbed, small_testbed
from emulator.testing.small_world import tiny_model, tiny_state

__all__ = [
    "ConformanceError",
    "PlayedRound",
    "PolicyConformance",
    "SmallTestbed",
    "exact_testbed",
    "small_testbed",
    "tiny_model",
    "tiny_state",
]
