"""Training as in FedAvg, the task of most policies."""

from collections.abc import Sequence

from emulator.forms.base import AdapterForm
from emulator.learning.host import DeviceHost
from emulator.learning.local_training import LocalTraining
from emulator.records import Job, Update


def train_adapter(host: DeviceHost, form: AdapterForm, jobs: Sequence[Job]) -> list[Update]:
    """Local training as in FedAvg: each device takes its steps of AdamW from the server's state, on its own batches."""
    return LocalTraining(host, form, jobs).run()
