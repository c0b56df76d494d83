"""``jetbed price``: options become work, mistakes become one sentence, and scripts get the keys they need."""

import json
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import pytest

import device_profiles
from emulator.cli.price import PriceRequest, priced
from emulator.cli.price_display import show_price
from emulator.errors import ConfigError
from emulator.records import LocalOptimizer, MemorySavers, WorkKind
from emulator.world.price.memory import peak_memory

REQUEST = PriceRequest(
    device="jetson_tx2",
    mode=None,
    model="roberta-base",
    depth=None,
    rank=8,
    targets="qv",
    batch=8,
    seq=128,
    precision="fp32",
    quantized_layers=0,
    activation_bits=8,
    width=1.0,
    cut=None,
    dropout=False,
    full_finetune=False,
    inference=False,
)


def test_without_options_all_layers_get_adapters_in_the_default_mode() -> None:
    found = priced(REQUEST)
    assert found.mode.name == "MAXP_CORE_ARM"
    assert found.work.adapters.ranks == (8,) * 12
    assert (found.work.backward_layers, found.work.adapters.places, found.work.kind) == (
        12,
        ("query", "value"),
        "adapters",
    )


@pytest.mark.parametrize(("mode", "name"), [("MAXQ", "MAXQ"), ("1", "MAXQ"), ("0", "MAXN")])
def test_a_mode_goes_by_name_or_number(mode: str, name: str) -> None:
    assert priced(replace(REQUEST, mode=mode)).mode.name == name


@pytest.mark.parametrize(
    ("changes", "work"),
    [
        ({"depth": 3, "rank": 4}, {"ranks": (0,) * 9 + (4,) * 3, "backward_layers": 3}),
        ({"targets": "all"}, {"targets": ("query", "key", "value", "attention_output", "mlp_up", "mlp_down")}),
        ({"targets": "mlp_down, query"}, {"targets": ("query", "mlp_down")}),
        ({"quantized_layers": 5}, {"quantized_layers": 5, "activation_bits": 8}),
        ({"quantized_layers": 5, "activation_bits": 4}, {"quantized_layers": 5, "activation_bits": 4}),
        ({"full_finetune": True, "depth": 2}, {"kind": WorkKind.WEIGHTS, "ranks": (0,) * 12, "backward_layers": 2}),
        ({"inference": True}, {"kind": WorkKind.INFERENCE, "backward_layers": 0, "ranks": (8,) * 12}),
        ({"cut": 4, "depth": 1}, {"forward_layers": 4, "backward_layers": 1, "ranks": (0, 0, 0, 8)}),
        ({"width": 0.5}, {"width_fraction": 0.5, "forward_layers": 12}),
        ({"batch": 2, "seq": 64}, {"batch_size": 2, "seq_len": 64}),
    ],
)
def test_options_become_work(changes: dict[str, Any], work: dict[str, Any]) -> None:
    found = priced(replace(REQUEST, **changes)).work
    told = {each.name: getattr(found, each.name) for each in fields(found)}
    told |= {"ranks": found.adapters.ranks, "targets": found.adapters.places}
    assert {name: told[name] for name in work} == work


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"device": "jetson_tx3"}, "'jetson_tx3' is not a device profile; did you mean jetson_tx2"),
        ({"device": "nowhere/board.toml"}, "there is no device profile at 'nowhere/board.toml'"),
        ({"mode": "MAXM"}, "--mode: jetson_tx2 has no such power mode; did you mean MAX.*it has MAXN, .*; got 'MAXM'"),
        ({"model": "roberta-bass"}, "there is no model 'roberta-bass'; did you mean roberta-base"),
        ({"depth": 13}, "--depth must be between 0 and the 12 layers of roberta-base, got 13"),
        ({"cut": 0}, "--cut must be between 1 and the 12 layers of roberta-base, got 0"),
        ({"cut": 4, "depth": 5}, "--depth must be between 0 and the 4 layers below the cut of roberta-base, got 5"),
        ({"width": 0.0}, "--width must be a share above 0 and at most 1, got 0.0"),
        ({"width": 1.5}, "--width must be a share above 0 and at most 1, got 1.5"),
        ({"depth": -1}, "--depth must be between 0 and the 12 layers of roberta-base, got -1"),
        ({"seq": 513}, "roberta-base takes at most 512 tokens, got a sequence length of 513"),
        ({"seq": 0}, "--seq must be at least 1, got 0"),
        ({"batch": 0}, "--batch must be at least 1, got 0"),
        ({"rank": 0}, "--rank must be at least 1, got 0"),
        ({"targets": "quary"}, "--targets takes qv, all, or names .* did you mean query.*; got 'quary'"),
        ({"targets": "mlp_gate"}, "--targets takes qv, all, or names of roberta-base's matrices"),
        ({"depth": 2, "quantized_layers": 3}, "--quantized-layers must be between 0 and the depth of 2, got 3"),
        ({"activation_bits": 5}, "--activation-bits must be 4 or 8, got 5"),
        ({"accumulation_steps": 0}, "--accumulation-steps must be at least 1, got 0"),
        ({"checkpointing": True, "quantized_layers": 3}, "--checkpointing keeps no activations .* got 3"),
        ({"response": 3}, "roberta-base is a roberta model, which gives no next word"),
        ({"response": 129}, "--response must be between 1 and the 128 tokens of an example, got 129"),
        ({"full_finetune": True, "inference": True}, "--full-finetune and --inference exclude one another"),
    ],
)
def test_a_mistake_is_one_sentence(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message) as refused:
        priced(replace(REQUEST, **changes))
    assert "\n" not in str(refused.value)


def test_scripts_get_seconds_flop_bytes_joules_and_whether_they_are_known(capsys: pytest.CaptureFixture[str]) -> None:
    show_price(replace(REQUEST, batch=1), as_json=True)
    found = json.loads(capsys.readouterr().out)
    price = priced(replace(REQUEST, batch=1))
    assert found["step_s"] == price.step_s.value
    assert found["step_flop"] == price.demand.forward_flop + price.demand.backward_flop
    assert (found["upload_bytes"], found["download_bytes"]) == (price.upload_bytes, price.download_bytes)
    assert found["peak_memory_bytes"] == price.memory.total_bytes == sum(found["memory_parts_bytes"].values())
    assert found["step_energy_j"] == price.energy_j.value
    assert found["in_known_range"] is False
    assert "128 tokens a step" in found["outside_known_range"]
    assert found["provenance"]["fp32_tflop_per_s"]["kind"] == "derived"


@pytest.mark.parametrize("changes", [{}, {"batch": 64, "full_finetune": True}, {"inference": True, "batch": 1}])
def test_what_is_printed_fits_80_columns(
    changes: dict[str, Any], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    show_price(replace(REQUEST, **changes), as_json=False)
    lines = capsys.readouterr().out.splitlines()
    assert max(map(len, lines)) <= 80
    assert any("usable" in line for line in lines)
    assert not any("…" in line for line in lines)
    assert any("extrapolated" in line for line in lines) == bool(changes.get("batch"))


def test_what_does_not_fit_costs_time_with_swap_and_a_desktop_leaves_less(capsys: pytest.CaptureFixture[str]) -> None:
    large = replace(REQUEST, device="jetson_nano", mode=None, batch=32, seq=256)
    without, swapping = priced(large), priced(replace(large, swap="nvme", desktop=True))
    usable_bytes = without.profile.usable_memory_bytes - 760 * 2**20
    assert (without.fits, swapping.fits) == (False, True)
    assert swapping.profile.usable_memory_bytes == usable_bytes
    missing_bytes = swapping.memory.total_bytes - usable_bytes
    assert swapping.swap_s.value == pytest.approx(missing_bytes / 300e6 + missing_bytes / 500e6)
    assert swapping.step_s.value == pytest.approx(without.step_s.value + swapping.swap_s.value)
    assert swapping.swap_s.low < swapping.swap_s.value < swapping.swap_s.high
    show_price(replace(large, swap="nvme"), as_json=False)
    assert "fits with swap into" in capsys.readouterr().out
    for changes, message in (
        ({"swap": "floppy"}, r"--swap: 'floppy' is not a swap; built-in are emmc, nvme, zram"),
        ({"desktop": True, "device": "examples/my_board.toml"}, r"--desktop: what a desktop takes on my_board is not"),
    ):
        with pytest.raises(ConfigError, match=message):
            priced(replace(large, **changes))


def test_of_a_network_the_part_below_the_cut_is_priced() -> None:
    found = priced(replace(REQUEST, model="alexnet", batch=64))
    assert (found.work.forward_layers, found.work.kind) == (5, WorkKind.WEIGHTS)
    assert found.download_bytes == found.upload_bytes == 4 * 2_251_584
    show_price(replace(REQUEST, model="alexnet", batch=64), as_json=False)
    for changes in (
        {"depth": 3},
        {"quantized_layers": 3},
        {"cut": 3},
        {"width": 0.3},
        {"dropout": True},
        {"checkpointing": True},
    ):
        with pytest.raises(ConfigError, match=r"is for transformers, got [3T0]"):
            priced(replace(REQUEST, model="alexnet", **changes))


def test_savers_of_memory_are_priced_and_told(capsys: pytest.CaptureFixture[str]) -> None:
    asked = replace(REQUEST, base_precision="nf4", checkpointing=True, accumulation_steps=4, optimizer="adamw_8bit")
    savers = MemorySavers(base_precision="nf4", checkpointing=True, accumulation_steps=4)
    price, plain = priced(asked), priced(REQUEST)
    optimizer = LocalOptimizer(name="adamw_8bit")
    assert price.memory == peak_memory(price.model, price.work, "fp32", optimizer=optimizer, savers=savers)
    assert price.memory.total_bytes < plain.memory.total_bytes
    assert price.step_s.value > plain.step_s.value
    show_price(asked, as_json=False)
    told = " ".join(capsys.readouterr().out.split())
    assert "frozen weights in nf4, checkpointing, in 4 passes" in told
    assert "frozen weights in nf4, known for float32" in told
    assert "two moments of 8 bits" in told
    show_price(asked, as_json=True)
    found = json.loads(capsys.readouterr().out)
    assert (found["base_precision"], found["checkpointing"], found["accumulation_steps"]) == ("nf4", True, 4)


def test_a_causal_language_model_pays_for_the_words_that_it_learns_to_say() -> None:
    short, long = (priced(replace(REQUEST, model="llama-160m", response=n)) for n in (10, 20))
    logits = 8 * 10 * 32000
    # of a logit its share is kept, with three indices of its token
    assert long.memory.activations_bytes - short.memory.activations_bytes == 4 * logits + 3 * 8 * 80


def test_masks_of_dropout_are_kept() -> None:
    kept = priced(replace(REQUEST, dropout=True)).memory.activations_bytes - priced(REQUEST).memory.activations_bytes
    # a layer: a byte for each element behind attention and behind the feed-forward part, and for each score; the
    # softmax, in float32, is kept before it drops out as well as after
    scores = 12 * 128 * 8 * 128
    assert kept == 12 * (2 * 768 * 8 * 128 + scores + 4 * scores)


def test_the_last_line_is_a_command_that_takes_what_was_given(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "my board.toml"
    path.write_bytes((Path(device_profiles.__file__).parent / "jetson_tx2.toml").read_bytes())
    show_price(replace(REQUEST, device=str(path)), as_json=False)
    assert f"jetbed devices '{path}'" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("kind", "n_bytes"),
    [("fp16", lambda n: 2 * n), ("int8", lambda n: n + 4 * -(-n // 512)), ("topk", lambda n: 8 * -(-n // 10))],
)
def test_compression_shrinks_what_travels(kind: Any, n_bytes: Any, capsys: pytest.CaptureFixture[str]) -> None:
    plain = priced(REQUEST)
    show_price(replace(REQUEST, upload_compression=kind, topk_fraction=0.1), as_json=True)
    shown = json.loads(capsys.readouterr().out)
    assert shown["upload_bytes"] == n_bytes(plain.upload_bytes // 4)
    assert (shown["download_bytes"], shown["upload_compression"]) == (plain.download_bytes, kind)
    with pytest.raises(ConfigError, match=r"--topk-fraction must be above 0 and at most 0.5, got 0.6"):
        priced(replace(REQUEST, topk_fraction=0.6))
