"""What a round finds is drawn once, from the seed, the round, and nothing else."""

import numpy as np

from emulator.seeds import Seeds
from emulator.testing.small_world import made_up_devices, made_up_links
from emulator.world.devices import Boards
from emulator.world.network.links import Links
from emulator.world.open_round import Jitter, drawn_conditions
from emulator.world.power_modes import PowerModes

SEEDS = Seeds(5)


def test_jitter_does_not_depend_on_who_asks_first() -> None:
    forwards, backwards = (Jitter(SEEDS, 2, 0.1, 3) for _ in range(2))
    pieces = [(device_id, n_computed) for device_id in range(3) for n_computed in range(3)]

    first = {piece: forwards.factor(*piece) for piece in pieces}

    assert {piece: backwards.factor(*piece) for piece in reversed(pieces)} == first
    assert len(set(first.values())) == 9
    assert Jitter(SEEDS, 3, 0.1, 3).factor(0, 0) != first[0, 0]


def test_without_variation_every_piece_of_work_takes_what_it_costs() -> None:
    assert Jitter(SEEDS, 0, 0.0, 2).factor(1, 4) == 1.0


def test_changes_of_mode_are_looked_for_only_where_they_cost_time() -> None:
    devices = made_up_devices(40)
    modes = PowerModes(np.array([1] * 40), 1, SEEDS)

    for penalty_s in (0.0, 2.0):
        boards = Boards(devices=devices, power_modes=modes, mode_switch_penalty_s=penalty_s)
        found = drawn_conditions(boards, Links(made_up_links(40), SEEDS), 3, now_s=0.0)
        assert found.switched == (modes.switched(3) if penalty_s else frozenset())
        assert [mode.name for mode in found.modes] == ["only"] * 40
        # Constant links: as fast as the boards, in turn.
        assert found.rates.down_bytes_per_s[:4].tolist() == [4e3, 8e3, 16e3, 4e3]
