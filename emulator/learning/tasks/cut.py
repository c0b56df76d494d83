"""Tasks for cohorts whose model is cut: with one merged top at the server, a copy for each device, or none."""

from collections.abc import Sequence

from emulator.forms.base import AdapterForm
from emulator.learning.cut.adapters import CutTraining, MergedTraining
from emulator.learning.cut.bottom import pass_bottoms
from emulator.learning.cut.convnet import ConvNetHost, MergedConvNet
from emulator.learning.host import DeviceHost
from emulator.records import Job, Update


def train_merged(host: DeviceHost | ConvNetHost, form: AdapterForm, jobs: Sequence[Job]) -> list[Update]:
    """Devices that share a top; each update has the device's own bottom and the one top."""
    if isinstance(host, ConvNetHost):
        return MergedConvNet(host, form, jobs).run()
    return MergedTraining(host, form, jobs).run()


def train_copies(host: DeviceHost | ConvNetHost, form: AdapterForm, jobs: Sequence[Job]) -> list[Update]:
    """Devices with a top each; each update has both."""
    if isinstance(host, ConvNetHost):
        return [update for job in jobs for update in MergedConvNet(host, form, [job]).run()]
    return CutTraining(host, form, jobs).run()


def compute_bottom(host: DeviceHost | ConvNetHost, form: AdapterForm, jobs: Sequence[Job]) -> list[Update]:
    """What live devices compute, which have no top; each update is empty."""
    return pass_bottoms(host, form, jobs)
