"""How the conformance suite fails: with a sentence about the policy, also where assertions are switched off."""


class ConformanceError(AssertionError):
    """A policy breaks the contract of :class:`emulator.policy.Policy`."""


def require(holds: bool, otherwise: str) -> None:
    """Raise a :class:`ConformanceError` that says ``otherwise`` unless the condition holds."""
    if not holds:
        raise ConformanceError(otherwise)
