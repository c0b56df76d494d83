"""Federated averaging by Flower, which notes when each round began and ended, and what devices said. Flower calls it.

The notes are lines of JSON in the file that ``JETBED_NOTES`` names; ``JETBED_STEPS`` are the local steps of a round.
"""

import json
import os
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from flwr.app import ArrayRecord, ConfigRecord, Context, Message
from flwr.serverapp import Grid, ServerApp
from flwr.serverapp.strategy import FedAvg

from benchmarks.bare_loop import build
from benchmarks.workload import Workload

app = ServerApp()


class NotedFedAvg(FedAvg):
    """Flower's FedAvg."""

    def configure_train(self, server_round: int, *arguments: Any) -> Iterable[Message]:
        messages = list(super().configure_train(server_round, *arguments))
        self._start_s = time.time()
        return messages

    def aggregate_train(self, server_round: int, replies: Iterable[Message]) -> Any:
        replies = list(replies)
        note = {
            "round": server_round,
            "start_s": self._start_s,
            "end_s": time.time(),
            "devices": [dict(reply.content["metrics"]) for reply in replies],
        }
        with Path(os.environ["JETBED_NOTES"]).open("a") as file:
            file.write(json.dumps(note) + "\n")
        return super().aggregate_train(server_round, replies)


@app.main()
def main(grid: Grid, context: Context) -> None:
    workload = Workload(**json.loads(os.environ["JETBED_WORKLOAD"]))
    model = build(workload)
    arrays = ArrayRecord([p.detach().numpy() for p in model.parameters() if p.requires_grad])
    strategy = NotedFedAvg(
        fraction_train=1.0,
        fraction_evaluate=0.0,
        min_train_nodes=workload.n_devices,
        min_available_nodes=workload.n_devices,
    )
    steps = ConfigRecord({"steps": int(os.environ["JETBED_STEPS"])})
    strategy.start(grid=grid, initial_arrays=arrays, num_rounds=int(context.run_config["rounds"]), train_config=steps)
