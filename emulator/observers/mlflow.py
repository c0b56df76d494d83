"""Logs a run to MLflow: to a database in its folder, to one that several runs share, or to a tracking server."""

import os
from typing import TYPE_CHECKING

from emulator.observers.base import RoundClosed, RunBegan, RunEnded, RunObserver
from emulator.observers.figures import figures, flat
from emulator.observers.libraries import need

if TYPE_CHECKING:
    from mlflow import MlflowClient

LONGEST_PARAMETER = 6000
"""Characters of a parameter's value that MLflow takes."""
STATUSES = {"finished": "FINISHED", "failed": "FAILED", "interrupted": "KILLED"}


class MLflow(RunObserver):
    """A run of MLflow: settings as parameters, the figures of each round as metrics, at step = index of the round.

    The timestamp of a metric is the emulated moment at which its round ended, in milliseconds from 0. ``run.json``'s
    status becomes the run's.

    Args:
        tracking_uri: such as ``sqlite:////home/me/mlflow.db`` or ``http://localhost:5000``; empty takes
            MLFLOW_TRACKING_URI, or without it the database ``mlflow.db`` in the folder of the run.
        experiment: the name of MLflow's experiment, which is made where it is missing.
    """

    def __init__(self, tracking_uri: str = "", experiment: str = "jetbed") -> None:
        need("mlflow", "mlflow")
        self._tracking_uri = tracking_uri
        self._experiment = experiment
        self._client: MlflowClient | None = None
        self._run_id = ""

    @property
    def needs_local_folder(self) -> bool:
        return not (self._tracking_uri or os.environ.get("MLFLOW_TRACKING_URI"))

    def run_began(self, began: RunBegan) -> None:
        from mlflow import MlflowClient
        from mlflow.entities import Param

        own = f"sqlite:///{(began.out_dir / 'mlflow.db').absolute()}"
        client = MlflowClient(tracking_uri=self._tracking_uri or os.environ.get("MLFLOW_TRACKING_URI") or own)
        known = client.get_experiment_by_name(self._experiment)
        experiment_id = known.experiment_id if known else client.create_experiment(self._experiment)
        run = client.create_run(experiment_id, run_name=began.out_dir.name, tags={"out_dir": str(began.out_dir)})
        settings = flat(began.config).items()
        client.log_batch(
            run.info.run_id, params=[Param(name, str(value)[:LONGEST_PARAMETER]) for name, value in settings]
        )
        self._client, self._run_id = client, run.info.run_id

    def round_closed(self, closed: RoundClosed) -> None:
        from mlflow.entities import Metric

        assert self._client is not None
        found, step = figures(closed), closed.report.round_index
        now_ms = round(found["emulated_s"] * 1000)
        self._client.log_batch(
            self._run_id, metrics=[Metric(name, value, now_ms, step) for name, value in found.items()]
        )

    def run_ended(self, ended: RunEnded) -> None:
        if self._client is not None:
            if ended.error is not None:
                self._client.set_tag(self._run_id, "error", ended.error)
            self._client.set_terminated(self._run_id, STATUSES[ended.status])
