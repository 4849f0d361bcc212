"""Tests for jaxflow.stopping."""

import signal
import threading

import pytest

from jaxflow import stopping


@pytest.mark.parametrize(
    ("number", "error"),
    [(signal.SIGINT, KeyboardInterrupt), (signal.SIGTERM, SystemExit)],
)
def test_a_signal_waits_until_the_loop_leaves(number, error):
    before = signal.getsignal(number)
    with stopping.Stop() as stop:
        signal.raise_signal(number)
        assert stop.signal == number
        with pytest.raises(error) as caught:
            stop.leave()
    assert signal.getsignal(number) is before
    if error is SystemExit:
        assert caught.value.code == 143


def test_a_second_interrupt_stops_at_once():
    with stopping.Stop(), pytest.raises(KeyboardInterrupt):
        signal.raise_signal(signal.SIGINT)
        signal.raise_signal(signal.SIGINT)


def test_nothing_happens_without_a_signal_or_outside_the_main_thread():
    found = []

    def work():
        with stopping.Stop() as stop:
            stop.leave()
            found.append(stop.signal)

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert found == [None]


def test_a_signal_that_nobody_looked_at_ends_the_block():
    done = []
    with pytest.raises(KeyboardInterrupt), stopping.Stop():
        signal.raise_signal(signal.SIGINT)
        done.append(True)
    assert done
