"""What is timed to fit a profile, and what to check it, have nothing in common and lie in one range."""

import pytest

from emulator.calibration.step_settings import StepSetting, grid, quick_unseen, shape_of, unseen
from emulator.errors import ConfigError
from emulator.records import WorkKind
from emulator.shapes.catalog import model_spec


@pytest.mark.parametrize("quick", [False, True])
def test_no_unseen_setting_is_in_a_grid(quick: bool) -> None:
    settings = quick_unseen() if quick else unseen(42)
    assert not {*settings} & {*grid(quick=False), *grid(quick=True)}
    assert len({*settings}) == len(settings) == (len(settings) if quick else 42)
    assert len({*grid(quick=quick)}) == len(grid(quick=quick))


@pytest.mark.parametrize("n_settings", [2, 5, 20, 25, 40])
def test_two_in_five_unseen_settings_are_decoders_and_there_are_as_many_as_asked(n_settings: int) -> None:
    settings = unseen(n_settings)
    assert len({*settings}) == n_settings
    assert sum(each.is_decoder for each in settings) == round(0.4 * n_settings)
    assert {*settings} <= {*unseen(42)}


def test_more_unseen_settings_than_there_are_are_refused() -> None:
    with pytest.raises(ConfigError, match="--settings must be between 2 and the 42 that are in no grid, got 43"):
        unseen(43)


def test_unseen_settings_have_models_ranks_and_tokens_of_their_own() -> None:
    settings = unseen()
    assert len(settings) == 25
    assert {each.kind for each in settings} == set(WorkKind) - {WorkKind.LAYERS}
    base = (False, 768, 12)
    assert not {shape_of(s) for s in settings if shape_of(s) != base} & {shape_of(s) for s in grid(quick=False)}
    tokens = {(s.batch_size, s.seq_len) for s in grid(quick=False)}
    assert not tokens & {(s.batch_size, s.seq_len) for s in settings}


def test_unseen_settings_lie_within_the_range_of_the_grid() -> None:
    seen = grid(quick=False)
    n_tokens = [s.batch_size * s.seq_len for s in seen]
    n_parameters = [s.model.n_parameters for s in seen]
    for setting in unseen():
        assert min(n_tokens) <= setting.batch_size * setting.seq_len <= max(n_tokens)
        assert min(n_parameters) <= setting.model.n_parameters <= max(n_parameters)
    assert max(n_parameters) >= model_spec("roberta-base", n_labels=2, seq_len=128, head="output").n_parameters


def test_the_grid_varies_all_that_a_step_depends_on() -> None:
    settings = grid(quick=False)
    for name in ("hidden_size", "depth", "rank", "targets", "batch_size", "seq_len", "kind"):
        assert len({getattr(setting, name) for setting in settings}) >= 2, name
    assert len({setting.hidden_size for setting in grid(quick=True)}) >= 2


def test_settings_of_a_model_follow_one_another_so_that_it_is_built_once_a_turn() -> None:
    for settings in (grid(quick=False), grid(quick=True), unseen(), quick_unseen()):
        shapes = [shape_of(setting) for setting in settings]
        assert shapes == sorted(shapes)


def test_a_setting_is_the_work_that_it_says() -> None:
    setting = StepSetting(hidden_size=128, n_layers=4, depth=3, rank=8, targets="qv", batch_size=2, seq_len=16)
    assert setting.work.adapters.ranks == (0, 8, 8, 8)
    assert (setting.work.backward_layers, setting.work.adapters.places) == (3, ("query", "value"))
    whole = StepSetting(**{name: getattr(setting, name) for name in StepSetting.__slots__} | {"kind": WorkKind.WEIGHTS})
    assert whole.work.adapters.ranks == (0, 0, 0, 0)
    assert setting.model.n_layers == 4
