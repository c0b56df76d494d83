"""A token bucket: what lets the pieces of a payload pass no faster than their link."""

from dataclasses import dataclass


@dataclass(slots=True)
class TokenBucket:
    """One token is the right to send one byte; they come as fast as the link carries bytes at the moment.

    The link tells how much it would have carried since the bucket was set up, so that tokens are the integral of its
    present rate: shared capacity, latency and losses are in it. The bucket begins with ``burst_bytes`` tokens. What is
    not used is not lost, so that a sender that was kept waiting makes up for it.
    """

    burst_bytes: float
    taken_bytes: float = 0.0

    def lacking_bytes(self, n_bytes: float, carried_bytes: float) -> float:
        """How many tokens are missing for ``n_bytes``, once the link would have carried so much; 0 where none are."""
        return max(0.0, self.taken_bytes + n_bytes - self.burst_bytes - carried_bytes)

    def take(self, n_bytes: float, carried_bytes: float) -> bool:
        """Use up the tokens for ``n_bytes``; whether they were there."""
        if self.lacking_bytes(n_bytes, carried_bytes) > 0:
            return False
        self.taken_bytes += n_bytes
        return True
