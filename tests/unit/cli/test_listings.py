"""What a board draws by how busy it is stands beside its other figures, where its profile says so."""

from tests.command_line import in_process


def test_the_parts_of_a_power_law_are_shown_by_mode() -> None:
    text = in_process("devices", "jetson_agx_orin_64gb").stdout
    shown = text.partition("power law, W")[2]
    (maxn,) = [line.split() for line in shown.splitlines() if line.split()[:1] == ["MAXN"]]
    assert maxn == ["MAXN", "22.5", "41.7", "20.9", "10"]


def test_a_board_of_one_constant_has_no_such_table() -> None:
    assert "power law" not in in_process("devices", "jetson_tx2").stdout
