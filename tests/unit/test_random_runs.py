"""Runs at random, without training: whatever devices, plans, losses and protocols come together, the books balance."""

import tempfile
import threading
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from hypothesis import event, given, settings
from hypothesis import strategies as st

from device_profiles.catalog import load_cluster
from emulator.config import load_config
from emulator.errors import UserError
from emulator.forms.cut import CutForm
from emulator.forms.cut_lora import cut_form
from emulator.forms.lora import LoraForm, lora_plan
from emulator.policy import Policy
from emulator.protocols.buffered import BufferedAsync
from emulator.protocols.cut import CutRounds
from emulator.records import ClusterView, Group, RoundPlan
from emulator.results import verify
from emulator.results.reader import load
from emulator.running.compose import build_coordinator
from emulator.shapes.spec import ModelSpec

RANK = 4
CUTTING = (f"{__name__}:RandomCuts", f"{__name__}:RandomCopies")
"""Policies whose payloads are not compressed."""
CROWDED = """
inherits = "jetson80-shared-wifi"

[access_points]
count = 2
consecutive_devices = 1
mbit_per_s = 3

[server]
egress_mbit_per_s = 5
ingress_mbit_per_s = 2

[provenance.all]
covers = ["access_points", "server"]
kind = "assumed"
source = "a test"
"""

CHANGING = """
kind = "lognormal"
download_mbit_per_s = 10
upload_mbit_per_s = 5
device_variation_fraction = 0.5
download_variation_fraction = 0.5
upload_variation_fraction = 0.8
round_correlation = {correlation}
coherence_s = {coherence_s}
min_mbit_per_s = 0.1
max_mbit_per_s = 200
latency_ms = 20
loss_fraction = 0.01

[provenance.all]
covers = ["download_mbit_per_s", "upload_mbit_per_s", "device_variation_fraction", "download_variation_fraction",
          "upload_variation_fraction", "round_correlation", "coherence_s", "min_mbit_per_s", "max_mbit_per_s",
          "latency_ms", "loss_fraction"]
kind = "assumed"
source = "a test"
"""

ROAMING = """
kind = "roaming"
mean_dwell_s = {mean_dwell_s}
min_gap_ms = 0
max_gap_ms = {max_gap_ms}
latency_ms = 20
loss_fraction = 0.01

[[point]]
name = "near"
min_mbit_per_s = 2
max_mbit_per_s = 20
shared_mbit_per_s = 10

[[point]]
name = "far"
min_mbit_per_s = 0.5
max_mbit_per_s = 5
shared_mbit_per_s = 3

[provenance.all]
covers = ["mean_dwell_s", "min_gap_ms", "max_gap_ms", "min_mbit_per_s", "max_mbit_per_s", "shared_mbit_per_s",
          "latency_ms", "loss_fraction"]
kind = "assumed"
source = "a test"
"""


@dataclass(kw_only=True)
class RandomPlans(Policy):
    """Any cohort, any depth, batches up to what no board can hold, groups, deadlines and over-selection."""

    buffer_size: int = 0

    def __post_init__(self) -> None:
        if self.buffer_size:
            self.protocol = BufferedAsync(self.buffer_size)

    def form(self, model: ModelSpec) -> LoraForm:
        return LoraForm(ranks=(RANK,) * model.n_layers)

    def plan(self, view: ClusterView) -> RoundPlan:
        rng, n_layers = view.rng, view.model.n_layers
        cohort = rng.permutation(view.available)[: rng.integers(1, len(view.available) + 1)].tolist()
        plan = lora_plan(
            view, (RANK,) * n_layers, {device: int(rng.integers(0, n_layers + 1)) for device in sorted(cohort)}
        )
        assignments = {
            device: replace(found, batch_size=int(2 ** rng.integers(0, 10)), n_steps=int(rng.integers(1, 5)))
            for device, found in plan.assignments.items()
        }
        if self.buffer_size:
            return RoundPlan(assignments=assignments)
        deadline_s = float(rng.exponential(60)) if rng.random() < 0.5 else None
        if rng.random() < 0.5:
            n_wanted = int(rng.integers(1, len(cohort) + 1)) if rng.random() < 0.5 else None
            return RoundPlan(assignments=assignments, deadline_s=deadline_s, n_wanted=n_wanted)
        cut = int(rng.integers(0, len(cohort) + 1))
        parts = [tuple(part) for part in (cohort[:cut], cohort[cut:]) if part]
        groups = tuple(Group(members=part, inner_rounds=int(rng.integers(1, 4))) for part in parts)
        return RoundPlan(assignments=assignments, deadline_s=deadline_s, groups=groups)


class RandomCuts(Policy):
    """Any cohort, any batches and any number of steps of a model that is cut and whose devices are merged."""

    protocol = CutRounds(merges=True)
    task = protocol.task

    def form(self, model: ModelSpec) -> CutForm:
        return cut_form(model, rank=RANK, cut=2)

    def plan(self, view: ClusterView) -> RoundPlan:
        rng, n_steps = view.rng, int(view.rng.integers(1, 5))
        cohort = rng.permutation(view.available)[: rng.integers(1, len(view.available) + 1)].tolist()
        return RoundPlan(
            assignments={
                device: self.form(view.model).assignment(
                    device,
                    n_steps=n_steps if self.protocol.merges else int(rng.integers(1, 5)),
                    batch_size=int(2 ** rng.integers(0, 10)),
                    learning_rate=0.1,
                    top_learning_rate=0.1,
                    merges=self.protocol.merges,
                )
                for device in sorted(cohort)
            }
        )


class RandomCopies(RandomCuts):
    """The same side by side."""

    protocol = CutRounds(merges=False)
    task = protocol.task


@st.composite
def availabilities(draw: st.DrawFn) -> dict[str, Any]:
    seconds = st.floats(0.5, 500)
    kind = draw(st.sampled_from(["always", "on_off", "trace", "battery"]))
    found: dict[str, Any] = {"kind": kind, "drop_out_fraction": draw(st.sampled_from([0.0, 0.3, 1.0]))}
    if kind == "on_off":
        found |= {"mean_on_s": draw(seconds), "mean_off_s": draw(seconds)}
    if kind == "battery":
        found |= {
            "battery_capacity_j": draw(st.floats(1e3, 1e5)),
            "battery_start_fraction": draw(st.floats(0, 1)),
            "battery_least_fraction": draw(st.floats(0, 1)),
            "charge_w": draw(st.floats(0, 30)),
            "plugged_from_s": draw(st.floats(0, 999)),
            "plugged_until_s": draw(st.floats(0, 1000)),
            "plugged_period_s": 1000.0,
        }
    if kind == "trace":
        if draw(st.booleans()):
            found |= {"trace_loop": True, "trace_offset_s": draw(seconds), "trace_time_scale": draw(st.floats(0.1, 10))}
        spans = st.tuples(st.integers(0, 5), st.floats(0, 500), st.floats(0.1, 500))
        lines = [f"{device} {start_s} {start_s + length_s}" for device, start_s, length_s in draw(st.lists(spans))]
        found["trace"] = "\n".join(["device_id start_s end_s", f"{draw(st.integers(0, 1))} 0 1e6", *lines])
    return found


@st.composite
def foregrounds(draw: st.DrawFn) -> dict[str, Any]:
    kind = draw(st.sampled_from(["none", "on_off", "schedule"]))
    if kind == "none":
        return {}
    found: dict[str, Any] = {"kind": kind, "compute_fraction": draw(st.floats(0.01, 0.99))}
    if kind == "on_off":
        return found | {"mean_on_s": draw(st.floats(1, 100)), "mean_off_s": draw(st.floats(1, 100))}
    return found | {"period_s": 100.0, "from_s": draw(st.floats(0, 40)), "until_s": draw(st.floats(50, 100))}


@st.composite
def compressions(draw: st.DrawFn) -> dict[str, Any]:
    upload = draw(st.sampled_from(["none", "fp16", "bf16", "int8", "topk"]))
    found: dict[str, Any] = {"upload": upload, "download": draw(st.sampled_from(["none", "fp16", "bf16", "int8"]))}
    if upload == "topk":
        found["topk_fraction"] = draw(st.floats(1e-4, 0.5))
    if "int8" in found.values():
        found["bucket_size"] = draw(st.integers(1, 5000))
    return found


@settings(max_examples=40, deadline=None)
@given(
    seed=st.integers(0, 10_000),
    n_devices=st.integers(2, 6),
    n_rounds=st.integers(1, 4),
    availability=availabilities(),
    policy=st.one_of(
        st.builds(
            lambda size: {"policy.path": f"{__name__}:RandomPlans", "policy.buffer_size": size}, st.integers(0, 4)
        ),
        st.builds(lambda name: {"policy.path": f"{__name__}:{name}"}, st.sampled_from(["RandomCuts", "RandomCopies"])),
    ),
    compression=compressions(),
    server_tflop_per_s=st.sampled_from([None, 0.5]),
    changing_link=st.none()
    | st.builds(
        lambda correlation, coherence_s: CHANGING.format(correlation=correlation, coherence_s=coherence_s),
        st.sampled_from([0.0, 0.8, 1.0]),
        st.floats(0.1, 50),
    )
    | st.builds(
        lambda mean_dwell_s, max_gap_ms: ROAMING.format(mean_dwell_s=mean_dwell_s, max_gap_ms=max_gap_ms),
        st.floats(1, 300),
        st.floats(0, 5000),
    ),
    foreground=foregrounds(),
    modes_from=st.none() | st.floats(0, 500),
    heterogeneity=st.fixed_dictionaries(
        {f"testbed.{what}_heterogeneity": st.just(1.0) | st.floats(0, 3) for what in ("compute", "memory", "link")}
    ),
)
def test_the_books_of_any_run_balance(
    seed: int,
    n_devices: int,
    n_rounds: int,
    availability: dict[str, Any],
    policy: dict[str, Any],
    compression: dict[str, Any],
    server_tflop_per_s: float | None,
    changing_link: str | None,
    foreground: dict[str, Any],
    modes_from: float | None,
    heterogeneity: dict[str, float],
) -> None:
    with tempfile.TemporaryDirectory() as folder:
        if changing_link:
            (Path(folder) / "changing.toml").write_text(changing_link)
        (Path(folder) / "crowded.toml").write_text(CROWDED)
        if "trace" in availability:
            (Path(folder) / "trace.txt").write_text(availability["trace"])
            availability = availability | {"trace": f"{folder}/trace.txt"}
        cluster = ("jetson80", "orin-mix", "jetson80-shared-wifi", f"{folder}/crowded.toml")[seed % 4]
        overrides: dict[str, Any] = {
            "seed": seed,
            "rounds": n_rounds,
            "training.enabled": False,
            "testbed.n_devices": n_devices,
            "testbed.cluster": cluster,
            "testbed.availability": availability,
            "testbed.server_tflop_per_s": server_tflop_per_s,
            "testbed.link": f"{folder}/changing.toml" if changing_link else None,
            "testbed.foreground": foreground,
            "compression": {} if policy["policy.path"] in CUTTING else compression,
            "testbed.mode_changes": [
                {"device": entry.device, "mode": entry.modes[0].name, "from_s": modes_from}
                for entry in load_cluster(cluster).resized(n_devices).entries
                if modes_from is not None
            ],
            **heterogeneity,
            **policy,
        }
        out = Path(folder) / "run"
        config = load_config(None, list(overrides.items()))
        try:
            build_coordinator(config, out, None, [], threading.Event()).run()
        except UserError as error:
            if "no device can be reached any more" not in str(error):
                raise
        if not out.exists():
            return
        frames = load(out)
        verify(frames)
        for status in frames.devices["status"].unique():
            event(status)
