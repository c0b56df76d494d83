"""Virtual tokens cost what PyTorch counts for them, and keep what autograd keeps."""

from typing import Any

import pytest
import torch
from peft import PrefixEncoder, PrefixTuningConfig
from torch import nn
from transformers import DynamicCache

from emulator.forms.ia3 import Ia3Form
from emulator.forms.layerwise import LayerwiseAssignment
from emulator.forms.prefix_tuning import PrefixTuningForm
from emulator.forms.prompt_tuning import PromptTuningForm
from emulator.learning.model.virtual_keys import argument_of
from emulator.records import Work
from emulator.shapes.catalog import causal_spec, model_spec
from emulator.shapes.causal import CausalSpec
from emulator.shapes.spec import ModelSpec
from emulator.world.price.step_kinds import step_of

N_VIRTUAL = 10


class Prompted(nn.Module):
    """Embeddings with virtual tokens in front, as PEFT joins them; the ids that stand for them are not looked at."""

    def __init__(self, words: nn.Embedding) -> None:
        super().__init__()
        self.words, self.virtual = words, nn.Embedding(N_VIRTUAL, words.embedding_dim)

    def forward(self, input_ids: torch.Tensor) -> torch.Tensor:
        numbers = torch.arange(N_VIRTUAL).expand(len(input_ids), -1)
        return torch.cat([self.virtual(numbers), self.words(input_ids[:, N_VIRTUAL:])], dim=1)


def attach_prompt(model: nn.Module, work: Work) -> None:
    from tests.unit.world.price.autograd_probe import put

    words = model.get_input_embeddings()  # type: ignore[operator]
    put(model, next(path for path, module in model.named_modules() if module is words), Prompted(words))


class Prefixed(nn.Module):
    """A model whose layers attend to keys and values in front of those of the tokens, as PEFT gives them."""

    def __init__(self, model: Any, form: PrefixTuningForm, spec: ModelSpec) -> None:
        super().__init__()
        width, self.spec = spec.matrix("key").out_features, spec
        config = PrefixTuningConfig(
            num_virtual_tokens=form.n_virtual_tokens,
            token_dim=width,
            num_layers=spec.n_layers,
            num_attention_heads=spec.n_kv_heads,
            prefix_projection=form.projection_size is not None,
            encoder_hidden_size=form.projection_size,  # type: ignore[arg-type]
        )
        self.encoder, forward = PrefixEncoder(config), model.forward  # type: ignore[no-untyped-call]

        def prefixed(input_ids: torch.Tensor, attention_mask: torch.Tensor, **others: Any) -> Any:
            mask = nn.functional.pad(attention_mask, (N_VIRTUAL, 0), value=1) if spec.is_decoder else None
            given = {str(argument_of(model)): self.cache(len(input_ids))}
            return forward(input_ids=input_ids, attention_mask=mask, **given, **others)

        model.forward = prefixed

    def cache(self, n_rows: int) -> DynamicCache:
        spec = self.spec
        given = self.encoder(torch.arange(N_VIRTUAL).expand(n_rows, -1))  # type: ignore[no-untyped-call]
        by_head = given.view(n_rows, N_VIRTUAL, spec.n_layers * 2, spec.n_kv_heads, spec.head_size)
        return DynamicCache(by_head.permute(2, 0, 3, 1, 4).split(2))  # type: ignore[no-untyped-call]


def everywhere(batch_size: int, model: ModelSpec) -> LayerwiseAssignment:
    return LayerwiseAssignment(device_id=0, n_steps=1, batch_size=batch_size, learning_rate=0.1, depth=model.n_layers)


@pytest.mark.slow
@pytest.mark.parametrize("attention", ["eager", "sdpa"])
@pytest.mark.parametrize("family", ["bert", "roberta", "distilbert", "modernbert", "llama", "gemma", "gpt2", "opt"])
@pytest.mark.parametrize(("batch_size", "seq_len"), [(4, 22), (2, 54), (2, 110)])
def test_a_step_with_a_prompt_takes_and_keeps_what_pytorch_does(
    attention: str, family: str, batch_size: int, seq_len: int
) -> None:
    from tests.unit.world.price.autograd_probe import priced, run_step

    model = priced(family, "full").with_seq_len(seq_len)
    form = PromptTuningForm(n_virtual_tokens=N_VIRTUAL)
    step = step_of(model, work := form.work(everywhere(batch_size, model), model))
    probe = run_step(family, work, "full", attention, attach_prompt)
    use = step.memory(attention="eager" if attention == "eager" else "sdpa")
    assert use.activations_bytes == pytest.approx(probe.kept_bytes, rel=0.05, abs=64)
    if attention == "eager":  # fused kernels' FLOP and operations are counted otherwise
        demand = step.demand()
        head_bias = 2 * 2 * batch_size * model.hidden_size
        assert demand.forward_flop == pytest.approx(probe.forward_flop, rel=0.001)
        assert demand.backward_flop == pytest.approx(probe.backward_flop, rel=0.001, abs=head_bias)
        assert demand.n_forward_operations == pytest.approx(probe.n_forward_operations, rel=0.2)
        assert demand.n_backward_operations == pytest.approx(probe.n_backward_operations, rel=0.3)
        if family == "modernbert":  # whose own element-wise operations are counted more coarsely
            return
        assert demand.forward_element_bytes / 4 == pytest.approx(probe.n_forward_elements, rel=0.07)
        # A decoder's last norm, 20 h, is no part of the price of its layers.
        last_norm = 20 * batch_size * work.seq_len * model.hidden_size * model.is_decoder
        assert demand.backward_element_bytes / 4 == pytest.approx(probe.n_backward_elements, rel=0.14, abs=last_norm)


@pytest.mark.slow
@pytest.mark.parametrize("attention", ["eager", "sdpa"])
@pytest.mark.parametrize(("vocabulary", "response_len"), [(1000, 20), (32_000, 8)])
def test_a_language_model_scores_no_virtual_token(attention: str, vocabulary: int, response_len: int) -> None:
    from tests.unit.world.price.autograd_probe import run_causal_step
    from tests.unit.world.price.test_causal_price import LLAMA, spec

    model = spec(seq_len=64, response_len=response_len, vocab_size=vocabulary)
    form = PromptTuningForm(n_virtual_tokens=N_VIRTUAL)
    step = step_of(model, work := form.work(everywhere(4, model), model))
    config = {**LLAMA, "vocab_size": vocabulary, "pad_token_id": 0}
    probe = run_causal_step(config, work, response_len, attention, attach=attach_prompt)
    use = step.memory(attention="eager" if attention == "eager" else "sdpa")
    assert use.activations_bytes == pytest.approx(probe.kept_bytes, rel=0.05)
    if attention == "eager":  # torch does not count what its kernels compute on a CPU
        assert step.forward_flop == pytest.approx(probe.forward_flop, rel=0.01)
        assert step.backward_flop == pytest.approx(probe.backward_flop, rel=0.01)


def test_the_prompt_lengthens_the_sequence_and_nothing_else_of_the_price() -> None:
    model = model_spec("roberta-base", n_labels=2, seq_len=100, head="output")
    form = PromptTuningForm(n_virtual_tokens=28)
    longer = model.with_seq_len(128)
    whole = Ia3Form().work(everywhere(4, longer), longer)
    priced, plain = step_of(model, form.work(everywhere(4, model), model)), step_of(longer, whole)
    assert priced.forward_flop == plain.forward_flop
    # IA3 leaves out the gradients that lead to the input of the lowest layer alone: those of query, key and value, each
    # of 2 h² a token, and of the product of queries.
    n_tokens, h = 4 * 128, 768
    assert priced.backward_flop - plain.backward_flop == 3 * 2 * n_tokens * h**2 + 2 * n_tokens * 128 * h


def test_an_answer_has_as_many_logits_behind_a_prompt_as_without() -> None:
    model = causal_spec("llama-3.2-1b", seq_len=64, response_len=16)
    assert isinstance(model, CausalSpec)
    assert model.n_head_rows(64 + 20, 20) == model.n_head_rows(64) == 16
    assert model.n_logits(64 + 20, 20) == 16 * model.vocabulary_size
    classifier = model_spec("llama-3.2-1b", n_labels=2, seq_len=64, head="output")
    assert classifier.n_head_rows(64 + 20, 20) == 84  # its head is applied to every token


@pytest.mark.slow
@pytest.mark.parametrize("projection_size", [None, 24])
@pytest.mark.parametrize("attention", ["eager", "sdpa"])
@pytest.mark.parametrize("family", ["bert", "roberta", "llama", "gemma", "gpt2", "phi3", "opt"])
@pytest.mark.parametrize(("batch_size", "seq_len"), [(4, 22), (2, 54), (2, 110)])
def test_a_step_with_a_prefix_takes_and_keeps_what_pytorch_does(
    projection_size: int | None, attention: str, family: str, batch_size: int, seq_len: int
) -> None:
    from tests.unit.world.price.autograd_probe import priced, run_step

    model = priced(family, "full").with_seq_len(seq_len)
    form = PrefixTuningForm(n_virtual_tokens=N_VIRTUAL, projection_size=projection_size)
    step = step_of(model, work := form.work(everywhere(batch_size, model), model))

    def attach(base: nn.Module, work: Work) -> None:
        base.prefix = Prefixed(base, form, model)

    probe = run_step(family, work, "full", attention, attach)
    use = step.memory(attention="eager" if attention == "eager" else "sdpa")
    assert use.activations_bytes == pytest.approx(probe.kept_bytes, rel=0.05, abs=64)
    if attention == "eager":
        demand = step.demand()
        head_bias = 2 * 2 * batch_size * model.hidden_size
        assert demand.forward_flop == pytest.approx(probe.forward_flop, rel=0.001)
        assert demand.backward_flop == pytest.approx(probe.backward_flop, rel=0.001, abs=head_bias)
        assert demand.n_forward_operations == pytest.approx(probe.n_forward_operations, rel=0.2)
        assert demand.n_backward_operations == pytest.approx(probe.n_backward_operations, rel=0.3)
        if family == "phi3":  # whose own element-wise operations are counted more coarsely
            return
        assert demand.forward_element_bytes / 4 == pytest.approx(probe.n_forward_elements, rel=0.07)
        last_norm = 20 * batch_size * seq_len * model.hidden_size * model.is_decoder
        assert demand.backward_element_bytes / 4 == pytest.approx(probe.n_backward_elements, rel=0.14, abs=last_norm)
