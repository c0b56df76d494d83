"""The same work on Flower's Ray-backed simulation engine: what a user would pick instead.

Run by ``benchmarks.engine`` with the python of an environment that has ``flwr[simulation]``, torch, transformers and
peft; prints the seconds of each round as a line of JSON.
"""

import argparse
import json
import time
from typing import Any

import torch
from flwr.client import NumPyClient
from flwr.clientapp import ClientApp
from flwr.common import Context, ndarrays_to_parameters
from flwr.server import ServerApp, ServerAppComponents, ServerConfig
from flwr.server.strategy import FedAvg
from flwr.simulation import run_simulation

from benchmarks.bare_loop import build, train
from benchmarks.workload import Workload, examples


def trained_parameters(model: torch.nn.Module) -> list[torch.nn.Parameter]:
    return [parameter for parameter in model.parameters() if parameter.requires_grad]


def to_arrays(model: torch.nn.Module) -> list[Any]:
    return [parameter.detach().numpy().copy() for parameter in trained_parameters(model)]


class Device(NumPyClient):
    """One device. Flower builds it anew for every round, so the model is built anew as well."""

    def __init__(self, workload: Workload, device_id: int) -> None:
        self._workload, self._device_id = workload, device_id

    def fit(self, parameters: list[Any], config: dict[str, Any]) -> tuple[list[Any], int, dict[str, Any]]:
        torch.set_num_threads(1)
        model = build(self._workload).train()
        with torch.no_grad():
            for parameter, array in zip(trained_parameters(model), parameters, strict=True):
                parameter.copy_(torch.from_numpy(array.copy()))
        train(model, *map(torch.from_numpy, examples(self._workload, self._device_id)), self._workload)
        return to_arrays(model), self._workload.n_steps * self._workload.batch_size, {}


class TimedFedAvg(FedAvg):
    """FedAvg that prints how long a round took, from its configuration to its aggregate."""

    def configure_fit(self, *arguments: Any, **options: Any) -> Any:
        self._start_s = time.perf_counter()
        return super().configure_fit(*arguments, **options)

    def aggregate_fit(self, server_round: int, results: Any, failures: Any) -> Any:
        if failures:
            raise RuntimeError(f"{len(failures)} devices failed: {failures[0]!r}")
        aggregate = super().aggregate_fit(server_round, results, failures)
        print(json.dumps({"round_s": time.perf_counter() - self._start_s}), flush=True)
        return aggregate


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("workload", type=json.loads)
    parser.add_argument("--rounds", type=int, required=True)
    options = parser.parse_args()
    workload = Workload(**options.workload)

    def device(context: Context) -> Any:
        return Device(workload, int(context.node_config["partition-id"])).to_client()

    def server(context: Context) -> ServerAppComponents:
        strategy = TimedFedAvg(
            fraction_fit=1.0,
            fraction_evaluate=0.0,
            min_available_clients=workload.n_devices,
            initial_parameters=ndarrays_to_parameters(to_arrays(build(workload))),
        )
        return ServerAppComponents(strategy=strategy, config=ServerConfig(num_rounds=options.rounds))

    run_simulation(
        ServerApp(server_fn=server),
        ClientApp(client_fn=device),
        num_supernodes=workload.n_devices,
        backend_config={"client_resources": {"num_cpus": 1.0, "num_gpus": 0.0}},
    )


if __name__ == "__main__":
    main()
