"""What a device does with a message: it builds the model, takes its local steps, and answers. Flower calls it.

``JETBED_WORKLOAD`` is a :class:`benchmarks.workload.Workload` as JSON. A device whose ``slowness`` is k computes for a
share 1/k of the time, and rests else.
"""

import json
import os
import time

import torch
from flwr.app import ArrayRecord, Context, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp

from benchmarks.bare_loop import build, train
from benchmarks.workload import Workload, examples

app = ClientApp()


@app.train()
def train_here(message: Message, context: Context) -> Message:
    torch.set_num_threads(1)
    workload = Workload(**json.loads(os.environ["JETBED_WORKLOAD"]))
    model = build(workload).train()
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    with torch.no_grad():
        for parameter, array in zip(trained, message.content["arrays"].to_numpy_ndarrays(), strict=True):
            parameter.copy_(torch.from_numpy(array.copy()))
    rows = [torch.from_numpy(array) for array in examples(workload, int(context.node_config["partition-id"]))]
    start_s = time.time()
    n_steps = int(message.content["config"]["steps"])
    for step in range(n_steps):
        step_s = time.perf_counter()
        here = slice(step * workload.batch_size, (step + 1) * workload.batch_size)
        train(model, rows[0][here], rows[1][here], workload)
        time.sleep((float(context.node_config["slowness"]) - 1) * (time.perf_counter() - step_s))
    content = RecordDict(
        {
            "arrays": ArrayRecord([parameter.detach().numpy() for parameter in trained]),
            "metrics": MetricRecord(
                {
                    "num-examples": float(n_steps * workload.batch_size or 1),
                    "node": int(context.node_config["partition-id"]),
                    "start_s": start_s,
                    "end_s": time.time(),
                }
            ),
        }
    )
    return Message(content=content, reply_to=message)
