"""Tasks for cohorts whose model is cut: with one merged top at the server, or with a copy of it for each device."""

from collections.abc import Sequence

from emulator.forms.base import AdapterForm
from emulator.learning.host import DeviceHost
from emulator.learning.split.adapters import CutTraining, MergedTraining
from emulator.records import Job, Update


def train_merged(host: DeviceHost, form: AdapterForm, jobs: Sequence[Job]) -> list[Update]:
    """Devices that share a top; each update has the device's own bottom and the one top."""
    return MergedTraining(host, form, jobs).run()


def train_copies(host: DeviceHost, form: AdapterForm, jobs: Sequence[Job]) -> list[Update]:
    """Devices with a top each; each update has both."""
    return CutTraining(host, form, jobs).run()
