"""Play one round by hand, and print when each device did what: a first look into the code, without a run around it.

    python examples/00_one_round.py

It takes a second and writes nothing. A run does the same, round after round (``emulator/running/coordinator.py``): it
also trains the jobs of a round, evaluates what came of it, lets the policy observe the report, and writes tables.
"""

from collections.abc import Sequence

import numpy as np

from device_profiles.catalog import load_link, load_profile
from emulator.forms.base import AdapterForm
from emulator.policy.checked import CheckedPolicy
from emulator.policy.rounds import play_round
from emulator.records import RoundReport, TrainingDefaults
from emulator.seeds import Seeds
from emulator.shapes.catalog import model_spec
from emulator.shapes.spec import ModelSpec
from emulator.world.devices import Boards, Device
from emulator.world.ledger import ActivityLog
from emulator.world.network.links import Links
from emulator.world.power_modes import PowerModes
from emulator.world.testbed import Testbed
from policies.fedlora import FedLora

BOARDS = ("jetson_tx2", "jetson_xavier_nx", "jetson_agx_xavier", "jetson_nano")
SIGNS = {"download": "v", "compute": "#", "upload": "^", "wait": "."}
N_COLUMNS = 64


def main() -> None:
    # What the devices pay for: the shapes of a model, without its weights.
    model = model_spec("roberta-base", n_labels=2, seq_len=64, head="output")
    # What is trained and shipped is the policy's to say.
    policy = FedLora(rank=8)
    testbed = testbed_of(BOARDS, model, policy.form(model))
    # Whatever a policy answers is checked before it is played.
    checked = CheckedPolicy(policy, testbed.form)

    # The policy plans, and its protocol plays the plan: download, compute and upload are events on a virtual clock.
    played = play_round(testbed, checked, round_index=0, state={}, train=None)
    # A closed round is what the server can observe; whoever was done earlier has waited until now.
    report = testbed.close_round()

    for device_id, assignment in played.opened.plan.assignments.items():
        mode = played.opened.conditions.modes[device_id]
        print(f"{BOARDS[device_id]} in mode {mode.name} trains {assignment.backward_layers} layers")
    print(timeline(played.opened.activities, report))


def testbed_of(boards: Sequence[str], model: ModelSpec, form: AdapterForm) -> Testbed:
    """One device of each board, all on the same kind of link."""
    seeds = Seeds(0)  # whatever is drawn at random follows from it
    devices = [Device(number, profile, profile.power_modes) for number, profile in enumerate(map(load_profile, boards))]
    n_modes = np.array([len(device.modes) for device in devices])
    return Testbed(
        boards=Boards(devices=devices, power_modes=PowerModes(n_modes, redraw_rounds=0, seeds=seeds)),
        links=Links([load_link("home-wifi")] * len(devices), seeds),
        model=model,
        form=form,
        training=TrainingDefaults(n_steps=4, batch_size=8, learning_rate=1e-3),
        seeds=seeds,
        facts={},
    )


def timeline(activities: ActivityLog, report: RoundReport) -> str:
    """A line of signs for each device, from the round's beginning to its end, and what it spent."""
    lines = []
    columns_per_s = N_COLUMNS / (report.end_s - report.start_s)
    for device_id, device in report.devices.items():
        signs = [" "] * N_COLUMNS
        for number, owner in enumerate(activities.device_id):
            if owner == device_id:
                start = round((activities.start_s[number] - report.start_s) * columns_per_s)
                end = round((activities.end_s[number] - report.start_s) * columns_per_s)
                signs[start:end] = SIGNS[activities.kind[number]] * (end - start)
        lines.append(
            f"{BOARDS[device_id]:17} |{''.join(signs)}| {device.download_s:.1f} + {device.compute_s:.1f} "
            f"+ {device.upload_s:.1f} s, waits {device.waiting_s:.1f} s"
        )
    legend = ", ".join(f"{sign} {kind}" for kind, sign in SIGNS.items())
    return "\n".join([*lines, f"The round took {report.end_s - report.start_s:.1f} emulated seconds: {legend}."])


if __name__ == "__main__":
    main()
