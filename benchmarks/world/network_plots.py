"""Draws the emulated network: a day of Wi-Fi, and how 20 transfers share what there is."""

from typing import Any

import numpy as np

from device_profiles.catalog import load_cluster, load_link
from device_profiles.link_kinds.wifi_rings import WifiRings
from emulator.seeds import Seeds
from emulator.world.clock import Clock, Process
from emulator.world.network.links import Links
from emulator.world.network.network import Network
from emulator.world.network.shared_network import SharedCapacity
from emulator.world.network.transfers import Direction

ROUND_S = 300
"""Wi-Fi rings fluctuate from round to round; the plot of a day assumes rounds of this length."""

MBIT_PER_S_PER_BYTE_PER_S = 8e-6


def draw_wifi_day(axes: Any) -> None:
    """The download rate of one device of each ring over a day of rounds."""
    link = load_link("wifi-rings")
    assert isinstance(link, WifiRings)
    links = Links([link] * len(link.rings), Seeds(0))
    hours = np.arange(0, 86_400, ROUND_S) / 3600
    rates = np.array([links.rates(number).down_bytes_per_s for number in range(len(hours))])
    axes.set_title(f"wifi-rings, one device per ring, rounds of {ROUND_S} s")
    for number, ring in enumerate(link.rings):
        axes.step(hours, MBIT_PER_S_PER_BYTE_PER_S * rates[:, number], where="post", label=ring.name, linewidth=1)
    axes.set(xlabel="hour", ylabel="download rate, Mb/s", xlim=(0, 24), ylim=(0, None))
    axes.legend(title="distance", loc="upper left", bbox_to_anchor=(1, 1), frameon=False)


def draw_fairness(axes: Any) -> None:
    """Rates of 20 transfers that start one after another at an access point of the example cluster, stacked."""
    cluster = load_cluster("jetson80-shared-wifi")
    assert cluster.access_points is not None
    capacity = cluster.access_points.bytes_per_s
    links = Links([entry.link for entry in cluster.entry_by_device[:20]], Seeds(0))
    clock, rates = Clock(), links.rates(0)
    shared = SharedCapacity(np.zeros(20, np.int64), (capacity,), (np.inf, np.inf))
    network = Network(clock, links, shared)
    every_s, times_s, seen = 0.05, list[float](), list[Any]()

    def send(device_id: int) -> Process[None]:
        yield clock.timeout(0.4 * device_id)
        yield network.start(device_id, Direction.DOWN, 12_000_000, float(rates.down_bytes_per_s[device_id])).event

    def watch() -> Process[None]:
        everyone = clock.all_of([clock.process(send(device_id)) for device_id in range(20)])
        while not everyone.processed:
            yield clock.timeout(every_s)
            times_s.append(clock.now_s)
            seen.append(network.rates_in_force())

    clock.run(watch())
    axes.set_title(f"20 downloads of 12 MB, one more each 0.4 s, at {capacity * 8e-6:g} Mb/s")
    axes.stackplot(times_s, MBIT_PER_S_PER_BYTE_PER_S * np.array(seen).T, linewidth=0.3, edgecolor="white")
    axes.axhline(MBIT_PER_S_PER_BYTE_PER_S * capacity, color="black", linestyle="--", linewidth=1)
    axes.set(xlabel="emulated time, s", ylabel="rates of all transfers, stacked, Mb/s", xlim=(0, 25))
