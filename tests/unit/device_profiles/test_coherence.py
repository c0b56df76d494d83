"""Links with a coherence time: rates that change within a round, whatever is asked for and in whatever order."""

from dataclasses import replace
from itertools import islice, pairwise
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from device_profiles.catalog import load_link
from device_profiles.link_kinds import pages
from device_profiles.link_kinds.fluctuation import Fluctuation
from device_profiles.link_kinds.log_normal import LogNormalLink
from device_profiles.link_kinds.pages import PAGE
from device_profiles.link_kinds.wifi_rings import Ring, WifiRings
from device_profiles.tables import ProfileError
from emulator.seeds import Seeds
from emulator.world.clock import Clock, Event, Process
from emulator.world.network.links import Links
from emulator.world.network.network import Network
from emulator.world.network.shared_network import SharedCapacity
from emulator.world.network.transfers import Direction

LINKS = Path(__file__).parents[3] / "device_profiles" / "links"
COHERENCE_S = 2.0
FLUCTUATION = Fluctuation(
    download_variation_fraction=0.4,
    upload_variation_fraction=0.2,
    round_correlation=0.8,
    min_bytes_per_s=1.0,
    max_bytes_per_s=1e12,
    coherence_s=COHERENCE_S,
)
WIFI = WifiRings(
    name="wifi",
    rings=(
        Ring(name="near", distance_m=2, min_bytes_per_s=8e5, max_bytes_per_s=1e6),
        Ring(name="far", distance_m=20, min_bytes_per_s=1e5, max_bytes_per_s=2e5),
    ),
    fluctuation=FLUCTUATION,
    latency_s=0.0,
    provenance={},
    sha256="",
)
USERS = LogNormalLink(
    name="users",
    download_bytes_per_s=4e5,
    upload_bytes_per_s=1e5,
    device_variation_fraction=0.5,
    fluctuation=FLUCTUATION,
    latency_s=0.0,
    provenance={},
    sha256="",
)
KINDS = pytest.mark.parametrize("link", [WIFI, USERS], ids=["wifi_rings", "lognormal"])


def with_correlation(correlation: float) -> WifiRings:
    return replace(WIFI, fluctuation=replace(FLUCTUATION, round_correlation=correlation))


def waited(event: Event) -> Process[None]:
    yield event


def interval_rates(links: Links, device_id: int, n: int, direction: int = 0) -> list[float]:
    """The rates of the first ``n`` intervals."""
    return [rate for rate, _ in islice(links.replays[device_id][direction].steps(0.0), n)]


def factors(link: WifiRings, n_devices: int, n_intervals: int, direction: int = 0) -> NDArray[np.float64]:
    """Rates over the devices' means, shape ``(n_devices, n_intervals)``."""
    still = replace(
        link,
        fluctuation=replace(link.fluctuation, download_variation_fraction=0.0, upload_variation_fraction=0.0),
    )
    found = []
    for spec in (link, still):
        links = Links([spec] * n_devices, Seeds(0))
        found.append(np.array([interval_rates(links, i, n_intervals, direction) for i in range(n_devices)]))
    return np.asarray(found[0] / found[1])


@KINDS
@pytest.mark.parametrize("is_shared", [False, True], ids=["by itself", "shared"])
def test_a_transfer_over_intervals_of_known_rates_takes_exactly_their_integral(
    link: WifiRings | LogNormalLink, is_shared: bool
) -> None:
    links, clock = Links([link] * 2, Seeds(0)), Clock()
    rates = interval_rates(links, 1, 41, Direction.UP)
    n_bytes = round(COHERENCE_S * (sum(rates[:40]) + rates[40] / 2))
    shared = SharedCapacity(np.zeros(2, np.int64), (np.inf,), (np.inf, np.inf)) if is_shared else None

    transfer = Network(clock, links, shared).start(1, Direction.UP, n_bytes, float("nan"))
    clock.run(waited(transfer.event))

    # 40 intervals, and half of the next; the last byte is rounded at rates of more than 1e4 bytes/s.
    assert clock.now_s == pytest.approx(40.5 * COHERENCE_S, abs=1e-4)


def test_what_has_arrived_in_the_middle_is_the_integral_until_then() -> None:
    links, clock = Links([WIFI], Seeds(0)), Clock()
    rates, network = interval_rates(links, 0, 3), Network(clock, links)
    transfer = network.start(0, Direction.DOWN, 10**9, float("nan"))

    clock.run(waited(clock.timeout(5.0)))

    assert network.arrived_bytes(transfer) == int(2.0 * rates[0] + 2.0 * rates[1] + 1.0 * rates[2])


def test_a_round_begins_with_the_rates_of_the_interval_that_it_begins_in() -> None:
    links = Links([WIFI, USERS], Seeds(0))

    for number in (0, 3, PAGE, 5 * PAGE + 1):
        for now_s in (number * COHERENCE_S, (number + 0.99) * COHERENCE_S):
            assert links.rates(0, now_s).down_bytes_per_s.tolist() == [
                interval_rates(links, device_id, number + 1)[-1] for device_id in (0, 1)
            ]


def test_rates_hold_through_the_round_without_a_coherence_time() -> None:
    links = Links([replace(WIFI, fluctuation=replace(FLUCTUATION, coherence_s=None))], Seeds(0))

    assert links.replays == {}
    assert links.rates(0, 0.0).up_bytes_per_s == links.rates(0, 1e6).up_bytes_per_s


@KINDS
@pytest.mark.parametrize("correlation", [0.0, 0.8, 1.0])
def test_rates_do_not_depend_on_the_order_in_which_they_are_asked_for(
    link: WifiRings | LogNormalLink, correlation: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    link = replace(link, fluctuation=replace(link.fluctuation, round_correlation=correlation))
    expected = interval_rates(Links([link] * 3, Seeds(0)), 2, 20 * PAGE)
    monkeypatch.setattr(pages, "_MOST_KEPT", 0)  # pages are forgotten, and made again

    jumping = Links([link] * 3, Seeds(0))

    for number in (15 * PAGE, 3, 19 * PAGE + 7, PAGE - 1, 15 * PAGE, 0, 12 * PAGE):
        rate, until_s = next(jumping.replays[2][0].steps((number + 0.5) * COHERENCE_S))
        assert (rate, until_s) == (expected[number], (number + 1) * COHERENCE_S)


@pytest.mark.parametrize("coherence_s", [0.1, 0.3, 1 / 3, 7.7])
def test_an_interval_begins_where_the_one_before_ends(coherence_s: float) -> None:
    link = replace(WIFI, fluctuation=replace(FLUCTUATION, coherence_s=coherence_s))
    (rate, _) = Links([link], Seeds(0)).replays[0]
    steps = list(islice(rate.steps(0.0), 500))

    for (_, end_s), following in pairwise(steps):
        assert next(rate.steps(end_s)) == following
        assert next(rate.steps(np.nextafter(end_s, 0.0)))[1] == end_s


def test_more_devices_and_other_links_leave_the_rates_of_a_device_alone() -> None:
    few, many = Links([WIFI, WIFI], Seeds(0)), Links([WIFI, WIFI, USERS, WIFI], Seeds(0))

    assert interval_rates(few, 1, 100) == interval_rates(many, 1, 100)


def test_another_seed_draws_other_rates() -> None:
    assert interval_rates(Links([WIFI], Seeds(0)), 0, 5) != interval_rates(Links([WIFI], Seeds(1)), 0, 5)


@pytest.mark.parametrize(("direction", "variation"), [(0, 0.4), (1, 0.2)])
def test_rates_have_the_mean_and_the_variation_of_those_between_rounds(direction: int, variation: float) -> None:
    drawn = factors(with_correlation(0.8), 200, 1000, direction)

    # 200,000 values of correlation 0.8 are worth 200,000 * (1 - 0.8) / (1 + 0.8) = 22,222 independent ones: the mean's
    # standard error is variation / 149, the deviation's about variation / 211 times 1.5 for the log-normal's long tail.
    assert drawn.mean() == pytest.approx(1.0, abs=5 * variation / 149)
    assert drawn.std() == pytest.approx(variation, rel=5 * 1.5 / 211)


def test_the_mean_over_a_long_time_is_the_device_s_own() -> None:
    n_intervals = 20_000
    links = Links([with_correlation(0.5)], Seeds(3))
    still = links.replays[0][0]

    end_s = n_intervals * COHERENCE_S
    mean_bytes_per_s = still.carried_bytes(0.0, end_s) / end_s
    own = 8e5 + 2e5 * Seeds(3).rng("link_mean").random(1)[0]  # uniform in the range of the near ring

    # For a log-normal AR(1) the correlation of rates is at most that of logarithms, 0.5 per step: 20,000 intervals are
    # worth at least a third as many independent ones.
    assert mean_bytes_per_s / own == pytest.approx(1.0, abs=5 * 0.4 / np.sqrt(n_intervals / 3))


@pytest.mark.parametrize("correlation", [0.0, 0.5, 0.8])
def test_the_logarithm_is_correlated_from_interval_to_interval_across_pages_too(correlation: float) -> None:
    logs = np.log(factors(with_correlation(correlation), 200, 40 * PAGE))
    logs -= logs.mean()
    borders = np.arange(PAGE, 40 * PAGE, PAGE)

    # Bartlett's bound for AR(1): sqrt((1 + 0.8²) / (1 - 0.8²) / n) = 2.13 / sqrt(n).
    n = logs.size
    within = (logs[:, 1:] * logs[:, :-1]).mean() / (logs**2).mean()
    assert within == pytest.approx(correlation, abs=5 * 2.13 / np.sqrt(n))
    across = (logs[:, borders] * logs[:, borders - 1]).mean() / (logs**2).mean()
    # 200 * 39 pairs of deviates of variance 1: the product's deviation is sqrt(1 + correlation²) at most sqrt(2).
    assert across == pytest.approx(correlation, abs=5 * np.sqrt(2 / (200 * 39)))


@pytest.fixture
def file_text() -> str:
    return (LINKS / "wifi-rings.toml").read_text(encoding="utf-8")


def test_a_file_states_its_coherence_time_with_provenance(tmp_path: Path, file_text: str) -> None:
    path = tmp_path / "mine.toml"
    origin = '\n[provenance.coherence_s]\nkind = "assumed"\nsource = "a test"\n'
    path.write_text(file_text.replace("latency_ms = 10", "latency_ms = 10\ncoherence_s = 5", 1) + origin)

    link = load_link(path)

    assert isinstance(link, WifiRings)
    assert link.fluctuation.coherence_s == 5.0
    assert link.provenance["coherence_s"].source == "a test"


@pytest.mark.parametrize(
    ("figure", "message"),
    [
        ("coherence_s = 5", "mine.toml: .*coherence_s"),
        ("coherence_s = 0.01", "mine.toml: coherence_s must be at least 0.1 s, got 0.01"),
        ("coherence_s = 0", "mine.toml: coherence_s must be at least 0.1 s, got 0.0"),
    ],
)
def test_a_coherence_time_without_origin_or_too_short_is_refused(
    tmp_path: Path, file_text: str, figure: str, message: str
) -> None:
    path = tmp_path / "mine.toml"
    path.write_text(
        file_text.replace("latency_ms = 10", f"latency_ms = 10\n{figure}", 1)
        + ('\n[provenance.coherence_s]\nkind = "assumed"\nsource = "a test"\n' if "= 5" not in figure else "")
    )

    with pytest.raises(ProfileError, match=message):
        load_link(path)


def test_a_constant_link_has_no_coherence_time(tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    path.write_text("coherence_s = 5\n" + (LINKS / "constant-8mbit.toml").read_text(encoding="utf-8"))

    with pytest.raises(ProfileError, match="coherence_s is not a key here"):
        load_link(path)
