"""Every second of a device is in the books once, with the joules that its mode draws for it."""

from emulator.forms.lora import LoraForm
from emulator.records import ActivityKind, Evaluation, Status
from emulator.seeds import Seeds
from emulator.testing import exact_testbed, tiny_model
from emulator.testing.exact_testbed import COMPUTE_W, IDLE_W
from emulator.testing.small_world import made_up_links
from emulator.world.bookkeeper import Bookkeeper
from emulator.world.clock import Clock, Event, Process
from emulator.world.ledger import Ongoing
from emulator.world.network.links import Links
from emulator.world.network.network import Network
from emulator.world.open_round import OpenRound

MODEL = tiny_model()


def opened() -> OpenRound:
    form = LoraForm(ranks=(2,) * MODEL.n_layers)
    rate = [1.0, 1.0]
    testbed = exact_testbed(form, MODEL, step_s=rate, download_bytes_per_s=rate, upload_bytes_per_s=rate)
    return testbed.open_round(0)


def bookkeeper(clock: Clock) -> Bookkeeper:
    return Bookkeeper(clock, Network(clock, Links(made_up_links(2), Seeds(0)), None), None)


def until(clock: Clock, time_s: float) -> Process[None]:
    yield clock.timeout(time_s - clock.now_s)


def test_a_computation_is_entered_as_it_goes_on_and_the_rest_is_waiting() -> None:
    clock, this = Clock(), opened()
    keeper = bookkeeper(clock)
    clock.run(until(clock, 1.0))
    keeper.enter_wait(this, 0)
    working = Ongoing(kind=ActivityKind.COMPUTE, start_s=1.0, duration_s=4.0, event=Event(), forward_s=4.0)
    for time_s, has_ended in ((2.0, False), (5.0, True)):
        clock.run(until(clock, time_s))
        keeper.enter(this, 0, working, has_ended=has_ended)
    clock.run(until(clock, 6.0))

    report = keeper.close(this, Evaluation(accuracy=0.5, loss=1.0, n_examples=2))

    log = this.activities
    own = [i for i, device_id in enumerate(log.device_id) if device_id == 0]
    assert [(log.kind[i], log.start_s[i], log.end_s[i]) for i in own] == [
        ("wait", 0.0, 1.0),
        ("compute", 1.0, 2.0),
        ("compute", 2.0, 5.0),
        ("wait", 5.0, 6.0),
    ]
    assert this.ledgers[0].energy_j == 2 * IDLE_W + 4 * COMPUTE_W
    assert (report.devices[0].forward_s, report.devices[0].waiting_s) == (4.0, 2.0)
    assert (report.devices[1].status, report.devices[1].waiting_s) == (Status.IDLE, 6.0)
    assert report.evaluation == Evaluation(accuracy=0.5, loss=1.0, n_examples=2)


def test_in_a_round_of_no_length_every_device_has_an_activity_of_no_length() -> None:
    clock, this = Clock(), opened()

    report = bookkeeper(clock).close(this, None)

    assert (this.activities.device_id, this.activities.kind) == ([0, 1], ["wait", "wait"])
    assert report.start_s == report.end_s == 0.0
