"""Random streams: every one is derived from (run seed, purpose, indices), so no stream depends on the order of use."""

import hashlib
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True, slots=True)
class Seeds:
    """The source of all random streams of one run.

    Two streams with different purposes or indices are independent; the same purpose and indices give the same stream in
    every process, whatever was drawn before.
    """

    run_seed: int

    def integer(self, purpose: str, *indices: int) -> int:
        """A seed of 63 bits for libraries that take an integer, such as torch."""
        text = ":".join([str(self.run_seed), purpose, *map(str, indices)])
        return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "little") >> 1

    def rng(self, purpose: str, *indices: int) -> np.random.Generator:
        """A fresh generator for this purpose.

        Streams that every device needs in every round are drawn once per round, as a vector over device ids, because a
        generator costs as much to make as hundreds of numbers cost to draw.
        """
        return np.random.default_rng(self.integer(purpose, *indices))
