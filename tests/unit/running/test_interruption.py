"""Signals that ask a process to end interrupt it, and mean what they meant before once a run is over."""

import os
import signal
import subprocess
import threading
from collections.abc import Iterator

import pytest

from emulator.running.interruption import ENDING, hang_up_kept_from_children, heed_signals, interruptible


@pytest.fixture(autouse=True)
def default_dispositions() -> Iterator[None]:
    """Tests may themselves run under nohup, which ignores SIGHUP here and in all children."""
    before = {number: signal.signal(number, signal.SIG_DFL) for number in ENDING}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.mark.parametrize("number", ENDING)
def test_a_signal_interrupts_like_ctrl_c_and_is_given_back(number: signal.Signals) -> None:
    before = signal.getsignal(number)
    with pytest.raises(KeyboardInterrupt), interruptible():
        os.kill(os.getpid(), number)
    assert signal.getsignal(number) == before


def test_a_handler_that_a_library_puts_in_the_way_is_replaced() -> None:
    with interruptible():
        signal.signal(signal.SIGTERM, lambda number, frame: None)
        heed_signals()
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGTERM)


def test_what_nohup_ignores_stays_ignored() -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with interruptible():
            os.kill(os.getpid(), signal.SIGHUP)
            assert signal.getsignal(signal.SIGHUP) == signal.SIG_IGN
    finally:
        signal.signal(signal.SIGHUP, before)


def test_children_outlive_a_hang_up() -> None:
    with hang_up_kept_from_children():
        child = subprocess.Popen(["sleep", "60"])
    other = subprocess.Popen(["sleep", "60"])
    for process in (child, other):
        process.send_signal(signal.SIGHUP)
    assert other.wait(timeout=10) == -signal.SIGHUP
    assert child.poll() is None
    child.kill()
    child.wait()


def test_a_thread_other_than_the_main_one_changes_nothing() -> None:
    before = signal.getsignal(signal.SIGTERM)
    seen = []

    def run() -> None:
        with interruptible():
            seen.append(signal.getsignal(signal.SIGTERM))

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    assert seen == [before]
