"""The runs that ``benchmarks.digests`` makes, and the boards, links, traces and models that they need as files.

Every policy is trained, trained again where much goes wrong, and priced without training; then come runs that reach
what defaults leave out: cut models, networks, hierarchies, other links and boards, deadlines, numeric settings. All is
asked for by configuration, so that nothing here depends on how the emulator is built.
"""

import pkgutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import policies
from benchmarks.workload import Workload, write_files
from emulator.records import ClusterView, RoundPlan
from policies.fedlora import FedLora

INPUTS = "{inputs}"
"""Stands in settings for the folder that :func:`write_inputs` has filled."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Scenario:
    """A run: ``settings`` by key path, over all defaults."""

    name: str
    settings: Mapping[str, Any]


@dataclass(kw_only=True)
class HurriedLora(FedLora):
    """FedLoRA that ends a round at a deadline, or with the first deliveries of more devices than it wants.

    Args:
        deadline_s: emulated seconds of a round; 0 means no deadline.
        n_wanted: deliveries that end a round; 0 means all.
    """

    deadline_s: float = 0.0
    n_wanted: int = 0

    def plan(self, view: ClusterView) -> RoundPlan:
        return replace(super().plan(view), deadline_s=self.deadline_s or None, n_wanted=self.n_wanted or None)


Settings = Mapping[str, Any]

ENCODER: Settings = {"model.train": "builtin:tiny-12", "training.learning_rate": 1e-3}
TRAINED: Settings = {
    **ENCODER,
    "rounds": 3,
    "backend.kind": "inline",
    "testbed.n_devices": 8,
    "data.n_train": 400,
    "data.n_test": 128,
    "training.local_steps": 2,
    "training.batch_size": 4,
    "training.threads_per_host": 1,
}
TIMED: Settings = {
    **ENCODER,
    "rounds": 24,  # power modes are drawn anew in round 20
    "backend.kind": "inline",
    "testbed.n_devices": 40,
    "training.enabled": False,
}
TROUBLE: Settings = {
    "testbed.cluster": f"{INPUTS}/hot.toml",
    "testbed.availability.kind": "on_off",
    "testbed.availability.mean_on_s": 60.0,
    "testbed.availability.mean_off_s": 10.0,
    "testbed.availability.drop_out_fraction": 0.15,
    "training.devices_stacked": 3,
}
HEAVY: Settings = {"training.batch_size": 32, "training.local_steps": 1, "model.price_seq_len": 256}
CNN: Settings = {"model.train": "builtin:cnn", "data.source": "builtin:digits", "training.learning_rate": 0.1}
OWN_DATA: Settings = {
    "data.source": f"{INPUTS}/train.jsonl",
    "data.test_source": f"{INPUTS}/test.jsonl",
    "data.seq_len": 16,
    "model.price": "trained",
}
BERT: Settings = {**OWN_DATA, "model.train": f"{INPUTS}/model"}
LLAMA: Settings = {**OWN_DATA, "model.train": f"{INPUTS}/llama"}
T5: Settings = {
    **OWN_DATA,
    "task.kind": "seq2seq",
    "model.train": f"{INPUTS}/t5",
    "data.prompt_column": "label",
    "data.response_column": "text",
}
PRESENCE: Settings = {
    "testbed.availability.kind": "trace",
    "testbed.availability.trace": f"{INPUTS}/presence.parquet",
}

EACH_ROUND: Settings = {
    "policy.targets": ["query", "value", "mlp_up"],
    "policy.steps_between": 1,
    "policy.carries_scores": False,
    "policy.sends": "scores",
    "policy.n_classes": 0,
    "policy.smallest_leaf": 0.5,
}

HURRIED = f"{HurriedLora.__module__}:{HurriedLora.__qualname__}"

VIRTUAL_TOKENS: dict[str, Any] = {"policy.n_virtual_tokens": 4, "data.seq_len": 28}
"""As many as the built-in model has positions for."""

VARIANTS: Mapping[str, tuple[str, Settings]] = {
    "cut/mergesfl-few": ("mergesfl", {"policy.n_selected": 4, "policy.cut": 4, "testbed.server_tflop_per_s": 13.0}),
    "cut/mergesfl-scaled": ("mergesfl", {"policy.scale_bottom_rate": True, "policy.ingress_batches": 3.0}),
    "cut/splitfed-few": ("splitfed", {"policy.n_selected": 4, "policy.cut": 9, "training.dropout": True}),
    "cut/mergesfl-cnn": ("mergesfl", CNN),
    "cut/mergesfl-cnn-few": ("mergesfl", {**CNN, "policy.n_selected": 5, "model.price": "trained"}),
    "cut/splitfed-cnn": ("splitfed", {**CNN, "testbed.server_tflop_per_s": 13.0}),
    "cut/splitfed-vgg": ("splitfed", {**CNN, **TROUBLE, "model.price": "vgg16-bn"}),
    "async/small-buffer": ("fedbuff", {"policy.buffer_size": 3, "policy.server_learning_rate": 0.5, "rounds": 6}),
    "async/unweighted": ("fedbuff", {**TROUBLE, "policy.buffer_size": 2, "policy.weight_by_examples": False}),
    "groups/random": ("hierfedlora", {"policy.group_size": 3, "policy.grouping": "random"}),
    "groups/near-iid": ("hierfedlora", {"policy.group_size": 3, "policy.regroup_rounds": 2}),
    "groups/trouble": ("hierfedlora", {**TROUBLE, "policy.group_size": 3, "policy.frequencies": [1, 2]}),
    "hurried/deadline": (HURRIED, {"policy.deadline_s": 12.0, "testbed.n_devices": 12}),
    "hurried/over-selected": (HURRIED, {"policy.n_wanted": 5, "testbed.n_devices": 10}),
    "hurried/trouble": (HURRIED, {**TROUBLE, "policy.n_wanted": 6, "policy.deadline_s": 20.0}),
    "policy/legend-decreasing": ("legend", {"policy.rank_order": "decreasing", "policy.downlink": "tuned"}),
    "policy/legend-uniform": ("legend", {"policy.rank_order": "uniform", "policy.adapt_depth": False}),
    "policy/fedara-fast": ("fedara", {"policy.decline_rounds": 2, "policy.orthogonality": 0.1, "rounds": 5}),
    "policy/fedspine-fast": (
        "fedspine",
        {"policy.pruning_rounds": 2, "policy.first_round": 0, "policy.steps_between": 2, "rounds": 4},
    ),
    "policy/fedspine-each-round": ("fedspine", EACH_ROUND),
    "policy/fedspine-cubic": ("fedspine", {"policy.schedule": "cubic", "policy.importance": "magnitude"}),
    "policy/fedspine-one-shot": ("fedspine", {"policy.schedule": "one_shot", "policy.target_sparsity": 0.3}),
    "policy/flora-ranks": ("flora", {"policy.ranks": [2, 4, 8], "policy.depth": 5}),
    "policy/hetlora-kept": ("hetlora", {"policy.kept_fraction": 0.7, "policy.tail_weight": 0.1}),
    "policy/sdlora-fast": ("sdlora", {"policy.phase_rounds": 1, "policy.n_phases": 3, "rounds": 4}),
    "policy/fedpeft-prompt": ("fedpeft", {**VIRTUAL_TOKENS, "policy.adapter": "prompt"}),
    "policy/fedpeft-prefix": ("fedpeft", {**VIRTUAL_TOKENS, "policy.adapter": "prefix"}),
    "policy/fedpeft-projected": (
        "fedpeft",
        {**VIRTUAL_TOKENS, "policy.adapter": "prefix", "policy.projection_size": 6},
    ),
    "policy/fedlora-depth": ("fedlora", {"policy.depth": 3, "policy.rank": 4}),
    "memory/fedquad-4-bits": ("fedquad", {**HEAVY, "policy.memory_fraction": 0.6}),
    "memory/fedquad-8-bits": ("fedquad", {**HEAVY, "policy.memory_fraction": 0.5, "policy.bits": 8}),
    "memory/uniform-depth": ("uniform_depth", {**HEAVY, "policy.memory_fraction": 0.5}),
    "memory/out": ("fedlora", {**HEAVY, "model.price_seq_len": 512}),
    "world/shared-wifi": ("fedlora", {"testbed.cluster": "jetson80-shared-wifi", "testbed.n_devices": 10}),
    "world/paper100": ("legend", {"testbed.cluster": "jetson80-paper100"}),
    "world/orin-mix-amp": ("fedara", {"testbed.cluster": "orin-mix", "testbed.precision": "amp"}),
    "world/calibrated": ("fedquad", {"testbed.cluster": f"{INPUTS}/calibrated.toml"}),
    "world/log-normal": ("legend", {"testbed.link": "home-wifi"}),
    "world/constant": ("fedlora", {"testbed.link": "constant-8mbit"}),
    "world/trace": ("fedlora", {"testbed.link": f"{INPUTS}/walk.toml"}),
    "world/presence-trace": ("fedlora", PRESENCE),
    "training/dropout": ("legend", {"training.dropout": True}),
    "training/alone": ("legend", {"training.devices_stacked": 1}),
    "training/stacks-of-3": ("hetlora", {"training.devices_stacked": 3}),
    "training/no-prefix": ("legend", {"training.prefix_cache_bytes": 0, "training.devices_stacked": 5}),
    "training/bfloat16": ("fedlora", {"training.precision": "bfloat16"}),
    "training/decay": ("fedlora", {"training.weight_decay": 0.1, "evaluation.every_rounds": 2, "seed": 1}),
    "data/iid": ("fedlora", {"data.partition.scheme": "iid", "data.seq_len": 12, "model.head": "full"}),
    "data/skewed": ("mergesfl", {"data.partition.alpha": 0.1, "seed": 2}),
    "model/bert": ("legend", {**BERT, "model.head": "full"}),
    "model/bert-cut": ("mergesfl", BERT),
    "model/bert-pruned": ("fedspine", {**BERT, "policy.pruning_rounds": 2}),
    "model/llama": ("fedlora", LLAMA),
    "model/llama-ranks": ("fedara", {**LLAMA, "training.dropout": True}),
    "model/llama-pruned": ("fedspine", {**LLAMA, "policy.pruning_rounds": 2}),
    "model/t5": ("legend", T5),
}
"""Trained runs that defaults do not reach: by name, a policy and what differs from ``TRAINED``."""


def scenarios() -> Iterator[Scenario]:
    """All runs; the policies are the modules of the package ``policies``."""
    names = sorted(module.name for module in pkgutil.iter_modules(policies.__path__) if module.name[0] != "_")
    large = {**HEAVY, "model.price": "roberta-large"}  # not all boards hold its 24 layers
    for policy in names:
        chosen = {"policy.path": policy}
        yield Scenario(name=f"trained/{policy}", settings={**TRAINED, **chosen})
        yield Scenario(name=f"trouble/{policy}", settings={**TRAINED, **TROUBLE, **chosen})
        yield Scenario(name=f"timed/{policy}", settings={**TIMED, **chosen})
        yield Scenario(name=f"timed-trouble/{policy}", settings={**TIMED, **TROUBLE, **chosen})
        yield Scenario(name=f"timed-large/{policy}", settings={**TIMED, **large, **chosen})
    for name, (policy, settings) in VARIANTS.items():
        yield Scenario(name=name, settings={**TRAINED, **settings, "policy.path": policy})


def write_inputs(folder: Path) -> None:
    """Writes what :data:`INPUTS` stands for: the same in every process."""
    import pyarrow as pa
    import pyarrow.parquet as pq
    import torch
    from transformers import (
        AutoModelForSeq2SeqLM,
        AutoModelForSequenceClassification,
        AutoTokenizer,
        LlamaConfig,
        T5Config,
    )

    for name, text in _TEXTS.items():
        (folder / name).write_text(text, encoding="utf-8")
    # Devices 0 to 6 come and go in turns of 40 s, odd ones half as often; device 7 is never there.
    spans = [
        (device, max(0.0, 40.0 * turn - 4.0 * device), 40.0 * turn + 25.0 - 3.0 * device)
        for device in range(7)
        for turn in range(0, 40, 1 + device % 2)
    ]
    columns = zip(("device_id", "start_s", "end_s"), zip(*spans, strict=True), strict=True)
    pq.write_table(pa.table(dict(columns)), folder / "presence.parquet")
    write_files(Workload(n_devices=8, n_steps=5, batch_size=6, seq_len=16, n_layers=4, hidden_size=32, depth=4), folder)
    heads: dict[str, Any] = {"num_attention_heads": 4, "num_key_value_heads": 2}
    llama = LlamaConfig(
        vocab_size=2048, hidden_size=32, intermediate_size=64, num_hidden_layers=3, pad_token_id=0, **heads
    )
    torch.manual_seed(1)
    AutoModelForSequenceClassification.from_config(llama).save_pretrained(folder / "llama")
    AutoTokenizer.from_pretrained(folder / "model").save_pretrained(folder / "llama")
    t5 = T5Config(
        vocab_size=2048,
        d_model=32,
        d_kv=8,
        d_ff=64,
        num_layers=2,
        num_heads=4,
        feed_forward_proj="gated-gelu",
        decoder_start_token_id=0,
    )
    torch.manual_seed(1)
    AutoModelForSeq2SeqLM.from_config(t5).save_pretrained(folder / "t5")
    AutoTokenizer.from_pretrained(folder / "model").save_pretrained(folder / "t5")


_MADE_UP = 'kind = "assumed"\nsource = "made up"\n'

_TEXTS = {
    "hot.toml": f"""inherits = "jetson80-shared-wifi"
power_mode_redraw_rounds = 1
mode_switch_penalty_s = 2
thermal = {{ rise_k_per_w = 6, time_constant_s = 30, limit_k = 30, throttled_speed_fraction = 0.6 }}
[provenance.all]
covers = ["power_mode_redraw_rounds", "mode_switch_penalty_s", "thermal"]
{_MADE_UP}""",
    "calibrated.toml": f"""inherits = "jetson80"
entries = [{{ device = "board.toml", count = 4 }}, {{ device = "jetson_tx2", count = 4 }}]
[provenance.entries]
{_MADE_UP}""",
    "board.toml": f"""[device]
title = "A calibrated board"
memory_gib = 6
usable_memory_gib = 4.5
default_mode = "A"
[[power_mode]]
name = "A"
mode_id = 0
step_law = "in_turn"
fp32_tflop_per_s = 0.6
amp_tflop_per_s = 1.8
memory_gb_per_s = 45
step_overhead_ms = 10
dispatch_us = 40
idle_w = 3
compute_w = 12
transfer_w = 4.5
[[power_mode]]
name = "B"
mode_id = 1
step_law = "queued"
fp32_tflop_per_s = 0.3
amp_tflop_per_s = 0.9
memory_gb_per_s = 30
step_overhead_ms = 15
dispatch_us = 60
idle_w = 2.5
compute_w = 7
transfer_w = 4
[provenance.all]
covers = ["memory_gib", "usable_memory_gib", "fp32_tflop_per_s", "amp_tflop_per_s", "memory_gb_per_s",
          "step_overhead_ms", "dispatch_us", "idle_w", "compute_w", "transfer_w"]
{_MADE_UP}""",
    "walk.toml": f"""kind = "trace"
format = "time_rate"
download = "down.txt"
upload = "up.txt"
latency_ms = 30
loss_fraction = 0.01
[provenance.trace]
covers = ["download", "upload", "latency_ms", "loss_fraction"]
{_MADE_UP}""",
    "down.txt": "".join(f"{second} {5 + second * 7 % 11}\n" for second in range(60)),
    "up.txt": "".join(f"{second} {1 + second * 5 % 7}\n" for second in range(60)),
}
