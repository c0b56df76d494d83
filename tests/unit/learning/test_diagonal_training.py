"""Adapters with a diagonal train, score and export as plain torch has it, one device at a time."""

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from emulator.algorithms.ranks import cubic_budget, highest
from emulator.forms.diagonal import DiagonalAssignment, DiagonalLoraForm, KeptRanks
from emulator.learning.attach.diagonal import StackedDiagonalLora
from emulator.learning.data.batches import draw_rows, make_batch
from emulator.learning.host import DeviceHost, HostContent
from emulator.learning.tasks.votes import VotingTraining
from emulator.records import Arrays, Job
from emulator.seeds import Seeds
from emulator.testing import tiny_model
from tests.unit.learning.exported import reloaded
from tests.unit.learning.test_stacked_training import SETTINGS
from tests.unit.learning.tiny_models import APART, tiny_content

TASK = "emulator.learning.tasks.votes:train_and_vote"
FORM = DiagonalLoraForm(rank=4, scaling=1.5)
ALL: KeptRanks = (((0, 1, 2, 3),) * 2,) * 3
UNEVEN: KeptRanks = (((0, 2), ()), ((), ()), ((1,), (0, 1, 3)))
HIGH: KeptRanks = (((), ()), ((), ()), ((3,), (0, 1)))


@pytest.fixture(scope="module")
def content(tmp_path_factory: pytest.TempPathFactory) -> HostContent:
    return tiny_content("bert", tmp_path_factory.mktemp("bert"))


def server_state(content: HostContent) -> Arrays:
    """Random adapters, so that every gradient is alive, and the initial head."""
    rng = np.random.default_rng(5)
    state = dict(content.model.head_arrays())
    for layer in range(3):
        for target in FORM.targets:
            n_out, n_in = content.model.arrays[f"{content.model.sites[layer, target]}.weight"].shape
            for name, shape in (("lora_A", (4, n_in)), ("lora_B", (n_out, 4)), ("lora_E", (4, 1))):
                state[f"layers.{layer}.{target}.{name}"] = rng.normal(0, 0.4, shape).astype(np.float32)
    return state


def job(state: Arrays, device_id: int, kept: KeptRanks, n_steps: int = 3, **other: Any) -> Job:
    assignment = DiagonalAssignment(
        device_id=device_id, n_steps=n_steps, batch_size=4, learning_rate=2e-3, kept=kept, **other
    )
    return Job(device_id=device_id, round_index=0, inner_round=0, assignment=assignment, state=state)


class Diagonal(nn.Module):
    """``W x + scaling · B (E ∘ A x)``, as written."""

    def __init__(self, base: nn.Module, factors: dict[str, nn.Parameter]) -> None:
        super().__init__()
        self.base, self.a, self.b, self.e = base, factors["lora_A"], factors["lora_B"], factors["lora_E"]

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.base(x) + FORM.scaling * ((x @ self.a.T) * self.e[:, 0]) @ self.b.T
        return y


def alone(content: HostContent, job: Job) -> tuple[Arrays, np.ndarray]:
    """One device in plain torch: what it trains, and AdaLoRA's score of each rank it holds."""
    held = job.assignment
    assert isinstance(held, DiagonalAssignment)
    model: Any = content.model.build()
    leaves = {name: nn.Parameter(torch.tensor(array)) for name, array in FORM.project(job.state, held).items()}
    places = [
        (layer, target) for layer in range(3) for target in FORM.targets if f"layers.{layer}.{target}.lora_E" in leaves
    ]
    for layer, target in places:
        path = content.model.sites[layer, target]
        factors = {name: leaves[f"layers.{layer}.{target}.{name}"] for name in ("lora_A", "lora_B", "lora_E")}
        model.set_submodule(path, Diagonal(model.get_submodule(path), factors))
    for name, path in content.model.head.items():
        head = model.get_submodule(path)
        head.weight, head.bias = leaves[f"head.{name}.weight"], leaves[f"head.{name}.bias"]
    optimizer = torch.optim.AdamW(leaves.values(), lr=held.learning_rate, weight_decay=SETTINGS.weight_decay)
    mean = {name: torch.zeros_like(leaf) for name, leaf in leaves.items()}
    unsure = {name: torch.zeros_like(leaf) for name, leaf in leaves.items()}
    for rows in draw_rows(job, content.local_rows(job.device_id), Seeds(SETTINGS.run_seed)):
        batch = make_batch(rows, content.train, "cpu")
        loss = model(input_ids=batch.input_ids, attention_mask=batch.attention_mask, labels=batch.labels).loss
        factors_ = [leaf.T if name.endswith("B") else leaf for name, leaf in leaves.items() if name[-1] in "AB"]
        loss = loss + held.orthogonality * sum((p @ p.T - torch.eye(len(p))).norm() for p in factors_) / len(factors_)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        for name, leaf in leaves.items():
            assert leaf.grad is not None
            sensitivity = (leaf * leaf.grad).abs().detach()
            mean[name] = held.smoothing * mean[name] + (1 - held.smoothing) * sensitivity
            unsure[name] = held.smoothing * unsure[name] + (1 - held.smoothing) * (sensitivity - mean[name]).abs()
    scores = []
    for layer, target in places:
        a, b, e = (
            mean[f"layers.{layer}.{target}.{name}"] * unsure[f"layers.{layer}.{target}.{name}"]
            for name in ("lora_A", "lora_B", "lora_E")
        )
        scores += [float(e[j, 0] + a[j].mean() + b[:, j].mean()) for j in range(len(e))]
    return {name: leaf.detach().numpy() for name, leaf in leaves.items()}, np.array(scores)


def test_devices_train_and_vote_as_if_alone_whatever_ranks_they_hold(content: HostContent) -> None:
    state = server_state(content)
    work = [
        job(state, 0, ALL, n_votes=5),
        job(state, 1, UNEVEN, n_steps=5, n_votes=2, smoothing=0.5),
        job(state, 2, HIGH, n_steps=1, orthogonality=0.3),
        job(state, 3, UNEVEN, n_votes=6, orthogonality=0.1),
    ]
    training = VotingTraining(DeviceHost(content, SETTINGS), FORM, work)
    updates = training.run()
    for one, update in zip(work, updates, strict=True):
        assert isinstance(one.assignment, DiagonalAssignment)
        expected, scores = alone(content, one)
        assert set(update.payload) == set(expected)
        assert max(np.abs(update.payload[name] - array).max() for name, array in expected.items()) < 1e-5
        if not one.assignment.n_votes:
            assert update.reported == {}
            continue
        row = [job.device_id for job in training.jobs].index(one.device_id)
        assert training.rank_scores(row) == pytest.approx(scores, rel=1e-3)
        chosen = sorted(range(len(scores)), key=lambda rank: -scores[rank])[: one.assignment.n_votes]
        assert np.flatnonzero(update.reported["votes"]).tolist() == sorted(chosen)
        assert len(update.reported["votes"]) == one.assignment.n_kept


def test_scores_that_are_reported_are_those_that_a_vote_goes_by(content: HostContent) -> None:
    state, host = server_state(content), DeviceHost(content, SETTINGS)
    [voted] = host.train(TASK, FORM, [job(state, 0, UNEVEN, n_votes=3)])
    [scored] = host.train(TASK, FORM, [job(state, 0, UNEVEN, n_votes=3, reports_scores=True)])
    assert set(scored.reported) == {"scores"}
    assert np.array_equal(highest(scored.reported["scores"], 3), voted.reported["votes"] > 0)
    [unasked] = host.train(TASK, FORM, [job(state, 0, UNEVEN, reports_scores=True)])
    assert np.array_equal(unasked.reported["scores"], scored.reported["scores"])


def test_the_score_of_one_step_is_the_closed_form(content: HostContent) -> None:
    # After one step from 0: S = 0.15 I and U = 0.15 |I - S| = 0.15 · 0.85 I, so s = 0.15² · 0.85 I².
    training = VotingTraining(DeviceHost(content, SETTINGS), FORM, [job(server_state(content), 0, HIGH, 1, n_votes=1)])
    training.run()
    stack = training.adapters.stack
    values, gradients = stack.download(), stack.gradients.numpy(force=True)
    importance = {
        name: np.abs(stack.read(values, 0, name, shape).astype(float) * stack.read(gradients, 0, name, shape))
        for name, shape in stack.shapes.items()
    }
    share = 0.15**2 * 0.85
    expected = [
        share
        * (
            importance[f"layers.2.{target}.lora_E"][rank, 0] ** 2
            + (importance[f"layers.2.{target}.lora_A"][rank] ** 2).mean()
            + (importance[f"layers.2.{target}.lora_B"][:, rank] ** 2).mean()
        )
        for target, rank in (("query", 0), ("value", 0), ("value", 1))
    ]
    assert training.rank_scores(0) == pytest.approx(expected, rel=1e-4)


def test_scores_and_schedule_are_those_of_pefts_adalora() -> None:
    from peft.tuners.adalora.layer import RankAllocator

    torch.manual_seed(0)
    shapes = {"lora_A": (3, 5), "lora_B": (4, 3), "lora_E": (3, 1)}
    module = nn.Module()
    for name, shape in shapes.items():
        module.add_module(name, nn.ParameterDict({"default": nn.Parameter(torch.randn(shape))}))
    settings = SimpleNamespace(beta1=0.85, beta2=0.85, target_r=1, tinit=2, tfinal=3, total_step=12, deltaT=1)
    allocator: Any = RankAllocator(module, settings, "default")
    allocator.init_bgt, allocator.target_bgt = 288, 48
    theirs = [allocator.budget_schedule(step)[0] for step in range(15)]
    assert [cubic_budget(t, 288, 48, warm_up=2, decline=12 - 3 - 2) for t in range(15)] == theirs
    running: Any = VotingTraining.__new__(VotingTraining)
    running._is_scoring, running._smoothing, running._sensitivity, running._uncertainty = (
        True,
        torch.tensor([[0.85]]),
        None,
        None,
    )
    for _ in range(4):
        gradients = {name: torch.randn(shape) for name, shape in shapes.items()}
        for name, parameter in module.named_parameters():
            parameter.grad = gradients[name.partition(".")[0]]
        allocator.update_ipt(module)
        values = torch.cat([parameter.detach().flatten() for parameter in module.parameters()])[None]
        flat = torch.cat([gradient.flatten() for gradient in gradients.values()])[None]
        running.adapters = SimpleNamespace(stack=SimpleNamespace(values=values, gradients=flat))
        running.after_step(0, 1)
    ours = (running._sensitivity * running._uncertainty)[0]
    expected = torch.cat([allocator._element_score(f"{name}.default").flatten() for name in shapes])
    assert torch.allclose(ours, expected, rtol=1e-5)


def test_the_backward_pass_ends_at_the_lowest_layer_that_has_a_rank(content: HostContent) -> None:
    host = DeviceHost(content, SETTINGS)
    host.train(TASK, FORM, [job(server_state(content), 0, HIGH), job(server_state(content), 1, HIGH)])
    needed = []
    for layer in range(3):
        module: Any = host.model.get_submodule(f"bert.encoder.layer.{layer}")
        module.register_forward_hook(lambda _, args, y: needed.append((args[0].requires_grad, y.requires_grad)))
    batch = make_batch(np.arange(8), content.train, "cpu")
    host.logits(batch, content.train)
    assert needed == [(False, False), (False, False), (False, True)]


@pytest.mark.parametrize("family", APART)
def test_the_exported_adapter_is_a_lora_that_gives_the_hosts_logits(family: str, tmp_path: Path) -> None:
    content = tiny_content(family, tmp_path / "base")
    state = dict(server_state(content))
    for layer, targets in enumerate(UNEVEN):
        for target, ranks in zip(FORM.targets, targets, strict=True):
            state[f"layers.{layer}.{target}.lora_E"][[rank for rank in range(4) if rank not in ranks]] = 0
    StackedDiagonalLora.export(content.model, FORM, state, tmp_path / "adapter")
    host = DeviceHost(content, SETTINGS)
    host.attach(FORM).load([state], assignments=None)
    batch = make_batch(np.arange(12), content.test, "cpu")
    with torch.no_grad():
        ours = host.logits(batch, content.test)
        model = reloaded(tmp_path / "base", tmp_path / "adapter")
        # DeBERTa calculates with its mask.
        mask = None if batch.attention_mask is None else batch.attention_mask.long()
        theirs = model(input_ids=batch.input_ids, attention_mask=mask).logits
    assert torch.allclose(ours, theirs, atol=1e-5)
    shapes = sorted(tuple(p.shape) for name, p in model.named_parameters() if "lora_A" in name)
    assert shapes == [(1, 16), (2, 16), (3, 16)]


def test_before_any_training_the_adapter_is_exported_whole(content: HostContent, tmp_path: Path) -> None:
    state = {name: np.zeros_like(a) if name.endswith("E") else a for name, a in server_state(content).items()}
    StackedDiagonalLora.export(content.model, FORM, state, tmp_path / "adapter")
    assert (tmp_path / "adapter" / "adapter_model.safetensors").is_file()


def test_a_device_that_masks_sends_e_at_the_ranks_of_its_vote_alone(content: HostContent) -> None:
    state = server_state(content)
    voting = [job(state, 0, ALL, n_votes=7), job(state, 1, UNEVEN, n_votes=2), job(state, 2, ALL)]
    masking = [replace(one, assignment=replace(one.assignment, masks=True)) for one in voting]  # type: ignore[call-arg]
    host = DeviceHost(content, SETTINGS)

    voted = host.train(TASK, FORM, voting)
    masked = host.train("emulator.learning.tasks.votes:train_and_mask", FORM, masking)
    for own, other, n_left in zip(masked, voted, (7, 2, 24), strict=True):
        diagonals = [name for name in own.payload if name.endswith("lora_E")]
        sent, trained = (np.concatenate([one.payload[name][:, 0] for name in diagonals]) for one in (own, other))
        votes = other.reported.get("votes", np.ones(len(trained)))
        assert np.array_equal(sent, trained * votes)
        assert np.count_nonzero(sent) == n_left
        assert not own.reported
        assert all(
            np.array_equal(own.payload[name], other.payload[name]) for name in own.payload if name not in diagonals
        )


def test_a_vote_that_is_not_sent_costs_nothing() -> None:
    model = tiny_model(3)
    sends = DiagonalAssignment(device_id=0, n_steps=1, batch_size=1, learning_rate=0.1, kept=ALL, n_votes=5)

    assert FORM.upload_bytes(sends, model) - FORM.upload_bytes(replace(sends, masks=True), model) == 3  # 24 bits
