"""What hosts are given: the pre-trained weights apart from all that depends on the seed and the data."""

import numpy as np

from emulator.backends.content import load_content, with_weights, without_weights
from emulator.config import load_config
from emulator.testing.compare import same

SMALL = [("data.n_train", 64), ("data.n_test", 16)]


def test_weights_are_the_same_for_every_seed_and_nothing_is_lost() -> None:
    contents = [load_content(load_config(None, [*SMALL, ("seed", seed)]), 4)[0] for seed in (0, 1)]
    (first, weights), (second, other_weights) = map(without_weights, contents)

    assert same(weights, other_weights)
    assert not same(dict(first.model.arrays), dict(second.model.arrays))
    assert {*weights} | {*first.model.arrays} == {*contents[0].model.arrays}
    # The head, which fits the labels, stays with the data; what was drawn from the seed is in it.
    assert {name.partition(".")[0] for name in first.model.arrays} == {"classifier"}
    assert {*contents[0].model.initialised} <= {*first.model.arrays}
    for content, without in zip(contents, (first, second), strict=True):
        put_together = with_weights(without, weights)
        assert same(
            dict(put_together.model.arrays), {name: content.model.arrays[name] for name in put_together.model.arrays}
        )
        assert all(np.shares_memory(put_together.model.arrays[name], weights[name]) for name in weights)
