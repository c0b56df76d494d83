"""What a process holds is measured in one of its own, whose steps are those that are priced."""

import platform

import pytest

from benchmarks.memory_truth import unseen
from emulator.calibration.process_peak import ProcessSetting, process_peak
from emulator.calibration.step_settings import decoder_config, encoder_config
from emulator.errors import UserError
from emulator.records import WorkKind
from emulator.world.price.memory import peak_memory
from emulator.world.price.step_kinds import step_of


def setting(model_type: str = "roberta", **changes: object) -> ProcessSetting:
    config = dict(encoder_config(128, 2)) | {"model_type": model_type}
    given = {"depth": 2, "rank": 8, "targets": "qv", "batch_size": 8, "seq_len": 64}
    return ProcessSetting(config=config, **(given | changes))  # type: ignore[arg-type]


def test_a_setting_has_the_work_that_it_says() -> None:
    work = setting(depth=1, kind="adapters").work
    assert (work.batch_size, work.seq_len, work.backward_layers, work.adapters.ranks) == (8, 64, 1, (0, 8))
    assert setting(kind="weights").work.adapters.ranks == (0, 0)
    assert setting(kind="inference").work.backward_layers == 0


def test_unseen_settings_are_twenty_and_of_every_kind() -> None:
    settings = unseen()
    assert len(settings) == 20
    assert len({(str(each.config), each.batch_size, each.seq_len, each.depth) for each in settings}) == 20
    assert {each.kind for each in settings} == {kind.value for kind in WorkKind if kind is not WorkKind.LAYERS}
    assert sum(each.model.is_decoder for each in settings) == 5
    for each in settings:
        assert 256 <= each.batch_size * each.seq_len <= 4096
        assert step_of(each.model, each.work).memory().total_bytes > 0
    assert decoder_config(256, 2)["num_key_value_heads"] == 2


@pytest.mark.slow
def test_a_process_holds_its_runtime_and_more_for_a_model() -> None:
    small, large = (process_peak(setting(batch_size=batch_size)) for batch_size in (2, 32))
    for found in (small, large):
        assert 100e6 < found.imported_bytes <= found.runtime_bytes < found.built_bytes < found.peak_bytes < 2e9
    one = setting(batch_size=32)
    memory = step_of(one.model, one.work).memory()
    assert large.peak_bytes - large.runtime_bytes > memory.weights_bytes + memory.activations_bytes
    assert large.peak_bytes > small.peak_bytes
    if platform.libc_ver()[0] == "glibc" and platform.libc_ver()[1] < "2.38":  # whose rules are replayed
        held_bytes = peak_memory(one.model, one.work, "fp32", allocator="glibc").total_bytes
        assert large.runtime_bytes + held_bytes == pytest.approx(large.peak_bytes, rel=0.1)


@pytest.mark.slow
def test_a_process_that_fails_says_why() -> None:
    with pytest.raises(UserError, match=r"ended with status 1: .*no-such-model"):
        process_peak(setting("no-such-model"))
