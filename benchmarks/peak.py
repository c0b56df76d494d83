"""What the machine could do at best, and what a round of the work takes, in floating-point operations."""

import json
import subprocess
import sys

from benchmarks.workload import RANK, Workload, model_config

MEASURE = """
import json, sys, time, torch
torch.set_num_threads(int(sys.argv[1]))
a, b = torch.randn(2048, 2048), torch.randn(2048, 2048)
best_s = float("inf")
for _ in range(12):
    start_s = time.perf_counter()
    torch.mm(a, b)
    best_s = min(best_s, time.perf_counter() - start_s)
print(json.dumps(2 * 2048**3 / best_s))
"""


def gemm_flop_per_s(n_threads: int) -> float:
    """The best of a dozen float32 matrix products of 2048 x 2048 on all cores, in a process of its own."""
    command = [sys.executable, "-c", MEASURE, str(n_threads)]
    return float(json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout))


def round_flop(workload: Workload) -> float:
    """FLOP of a round by the same count that prices emulated devices (see ``emulator.world.price.step_time``)."""
    from emulator.forms.lora import LoraAssignment, LoraForm
    from emulator.shapes.catalog import model_spec_from_config
    from emulator.world.price.step_kinds import step_of

    config = {"model_type": "bert", "type_vocab_size": 2, **model_config(workload)}
    model = model_spec_from_config(config, name="workload", n_labels=4, seq_len=workload.seq_len, head="output")
    below = workload.n_layers - workload.depth
    ranks = (0,) * below + (RANK,) * workload.depth
    assignment = LoraAssignment(
        device_id=0,
        n_steps=workload.n_steps,
        batch_size=workload.batch_size,
        learning_rate=1e-3,
        ranks=ranks,
        depth=workload.depth,
    )
    work = LoraForm(ranks=ranks).work(assignment, model)
    step = step_of(model, work)
    return workload.n_devices * workload.n_steps * (step.forward_flop + step.backward_flop)
