"""What a device computes of a model that is cut: every step of its bottom, and nothing of the top."""

import numpy as np
import pytest
import torch

from emulator.learning.cut.convnet import ConvNetHost
from emulator.learning.data.batches import draw_rows, make_batch
from emulator.learning.host import DeviceHost, HostContent
from emulator.learning.model.export import peft_name, to_peft
from emulator.learning.tasks.cut import compute_bottom
from emulator.seeds import Seeds
from tests.unit.learning.cut.test_cut_adapters import FORM, SETTINGS, is_bottom, jobs, server_state
from tests.unit.learning.cut.test_merged_convnet import CONTENT
from tests.unit.learning.cut.test_merged_convnet import FORM as CONVNET_FORM
from tests.unit.learning.cut.test_merged_convnet import SETTINGS as CONVNET_SETTINGS
from tests.unit.learning.cut.test_merged_convnet import jobs as convnet_jobs
from tests.unit.learning.tiny_models import tiny_content


@pytest.fixture(scope="module")
def content(tmp_path_factory: pytest.TempPathFactory) -> HostContent:
    return tiny_content("bert", tmp_path_factory.mktemp("bert"))


def test_a_gradient_of_ones_goes_back_through_the_bottom_as_in_plain_torch(content: HostContent) -> None:
    (job,) = jobs(server_state(content), 4, merges=False)
    host = DeviceHost(content, SETTINGS)

    compute_bottom(host, FORM, [job])

    model = to_peft(content.model, job.state, FORM.scaling).eval()
    (rows,) = draw_rows(job, content.local_rows(0), Seeds(SETTINGS.run_seed))
    batch = make_batch(rows, content.train, "cpu")
    below = model(
        input_ids=batch.input_ids, attention_mask=batch.attention_mask, output_hidden_states=True
    ).hidden_states[FORM.cut]
    parameters = dict(model.named_parameters())
    stack = host.attach(FORM).stack
    for name in filter(is_bottom, job.state):
        (expected,) = torch.autograd.grad(below.sum(), parameters[peft_name(content.model, name)], retain_graph=True)
        assert np.abs(stack.gradient(name)[0].numpy() - expected.numpy()).max() < 1e-4


def test_the_top_has_no_gradient_and_every_step_is_told(content: HostContent) -> None:
    (job,) = jobs(server_state(content), 4, n_steps=3, merges=False)
    host, told = DeviceHost(content, SETTINGS), []
    host.on_step = told.append

    (update,) = compute_bottom(host, FORM, [job])

    stack = host.attach(FORM).stack
    tops = [name for name in stack.shapes if not is_bottom(name)]
    assert tops
    assert not any(stack.gradient(name).any() for name in tops)
    assert told == [0, 1, 2]
    assert (update.key, update.payload) == (job.key, {})


def test_a_convnet_passes_its_bottom_as_often_as_it_has_steps() -> None:
    host, told = ConvNetHost(CONTENT, CONVNET_SETTINGS), []
    host.on_step = told.append
    (job,) = convnet_jobs(4, n_steps=2, merges=False)

    (update,) = compute_bottom(host, CONVNET_FORM, [job])

    assert told == [0, 1]
    assert (update.key, update.payload, update.n_examples) == (job.key, {}, 30)
