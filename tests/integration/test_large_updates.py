"""Updates that are too large to be handed around stay where they were trained, and change no byte of a result."""

import pytest

from tests.integration.conftest import TABLES, digests
from tests.integration.twins import Twins


@pytest.mark.slow
@pytest.mark.parametrize("policy", ["fedlora", "lorafair"])
def test_updates_that_hosts_keep_give_the_bytes_of_one_process(policy: str, twins: Twins) -> None:
    """Those of one policy are added up by hosts, those of the other by the policy itself."""
    inline, on_ray = (each[f"wide-{policy}"] for each in (twins.inline, twins.on_ray))

    assert len(digests(inline)) == len(TABLES)
    assert digests(on_ray) == digests(inline)
    adapters = [run / "adapter" / "adapter_model.safetensors" for run in (inline, on_ray)]
    assert adapters[0].read_bytes() == adapters[1].read_bytes()
