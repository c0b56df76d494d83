"""Links between whose access points devices roam: how they are read, and where devices are when."""

import math
from itertools import islice, pairwise
from pathlib import Path

import numpy as np
import pytest

from device_profiles.catalog import load_link
from device_profiles.link_kinds.roaming import RoamingLink
from device_profiles.tables import ProfileError
from device_profiles.text_files import read_text
from emulator.seeds import Seeds
from emulator.world.network.links import Links

LINKS = Path(__file__).parents[3] / "device_profiles" / "links"
TRACE_ORIGIN = '\n[provenance.walks]\ncovers = ["trace", "trace_period_s"]\nkind = "assumed"\nsource = "a test"\n'


@pytest.fixture
def file_text() -> str:
    return read_text(LINKS / "roaming-wifi.toml")


def read(tmp_path: Path, text: str) -> RoamingLink:
    (tmp_path / "mine.toml").write_text(text)
    link = load_link(tmp_path / "mine.toml")
    assert isinstance(link, RoamingLink)
    return link


def with_walks(tmp_path: Path, text: str, walks: str, period: str = "") -> RoamingLink:
    (tmp_path / "walks.txt").write_text(walks)
    before, _, after = text.partition("[provenance.mean_dwell_s]")
    _, _, after = after.partition('uncertainty = "×/÷ 5"\n')
    text = before.replace("mean_dwell_s = 600", f'trace = "walks.txt"\n{period}') + after + TRACE_ORIGIN
    return read(tmp_path, text)


def visits(link: RoamingLink, device_id: int, until_s: float) -> list[tuple[float, int]]:
    """When a device of eight gets a link to which point, by the steps of its rate."""
    links = Links([link] * 8, Seeds(0))
    walk, (rate, _) = links.walks[device_id], links.replays[device_id]
    found, now_s = [(0.0, walk.point_at(0.0))], 0.0
    for bytes_per_s, end_s in rate.steps(0.0):
        if bytes_per_s and found[-1][1] != walk.point_at(now_s):
            found.append((now_s, walk.point_at(now_s)))
        if end_s >= until_s:
            return found
        now_s = end_s
    return found


def test_visits_have_the_mean_length_and_go_to_every_other_point_alike() -> None:
    link = load_link("roaming-wifi")
    assert isinstance(link, RoamingLink)
    links = Links([link] * 40, Seeds(0))
    lengths_s, turns = [], []
    for device_id in range(40):
        walk, ends_s = links.walks[device_id], [0.0]
        for bytes_per_s, end_s in islice(links.replays[device_id][0].steps(0.0), 400):
            if bytes_per_s:
                ends_s.append(end_s)
        lengths_s += np.diff(ends_s).tolist()
        points = [walk.point_at(end_s) for end_s in ends_s]
        turns += [(after - before) % 4 for before, after in pairwise(points)]

    # Of an exponential length the standard deviation is the mean.
    n = len(lengths_s)
    assert np.mean(lengths_s) == pytest.approx(600, abs=5 * 600 / math.sqrt(n))
    assert np.std(lengths_s) == pytest.approx(600, abs=5 * 600 * math.sqrt(2 / n))
    share = np.bincount(turns, minlength=4) / n
    assert share[0] < 1 / 300  # it comes back where the visit between has been shorter than its gap
    assert share[1:] == pytest.approx([1 / 3] * 3, abs=5 * math.sqrt(2 / 9 / n))


def test_gaps_and_rates_lie_between_their_bounds_and_have_their_means() -> None:
    link = load_link("roaming-wifi")
    assert isinstance(link, RoamingLink)
    links, gaps_s, shares = Links([link] * 40, Seeds(1)), [], []
    for device_id in range(40):
        now_s = 0.0
        for bytes_per_s, end_s in islice(links.replays[device_id][1].steps(0.0), 400):
            if bytes_per_s:
                point = link.access_points[links.walks[device_id].point_at(now_s)]
                low, high = point.min_bytes_per_s, point.max_bytes_per_s
                shares.append((bytes_per_s - low) / (high - low))
            else:
                gaps_s.append(end_s - now_s)
            now_s = end_s

    assert min(gaps_s) > 0
    assert max(gaps_s) <= 0.4 + 1e-9
    # Uniform; a visit of ten minutes is shorter than its gap once in about 2,700 times.
    assert np.mean(gaps_s) == pytest.approx(0.225, abs=5 * 0.35 / math.sqrt(12 * len(gaps_s)) + 0.225 / 2700)
    assert np.mean(shares) == pytest.approx(0.5, abs=5 / math.sqrt(12 * len(shares)))


def test_the_mean_over_a_long_time_is_the_link_s_own(tmp_path: Path, file_text: str) -> None:
    link = read(tmp_path, file_text.replace("mean_dwell_s = 600", "mean_dwell_s = 1"))
    links = Links([link] * 4, Seeds(0))
    means = [links.replays[device_id][0].carried_bytes(0.0, 20_000.0) / 20_000.0 for device_id in range(4)]

    # The points' middles are 21, 14, 10.5 and 4.5 Mb/s. Of a second's visit, what is left behind a gap is the mean of
    # exp(-gap) over the gaps.
    linked = (math.exp(-0.05) - math.exp(-0.4)) / 0.35
    expected = linked * (21 + 14 + 10.5 + 4.5) / 4 * 1e6 / 8
    # Some 80,000 visits; a visit's bytes vary by about 1.3 times their mean.
    assert np.mean(means) == pytest.approx(expected, rel=5 * 1.3 / math.sqrt(80_000))
    sampler = link.sampler(np.arange(4), 4, Seeds(0))
    assert sampler.mean_rates() == pytest.approx(np.full((2, 4), expected))


@pytest.mark.parametrize("most_ms", ["0", "5e-324", "1e-300", "1e-9"])
def test_gaps_that_are_hardly_any_take_hardly_anything(tmp_path: Path, file_text: str, most_ms: str) -> None:
    shorter = file_text.replace("min_gap_ms = 50", "min_gap_ms = 0").replace(
        "max_gap_ms = 400", f"max_gap_ms = {most_ms}"
    )
    sampler = read(tmp_path, shorter).sampler(np.arange(4), 4, Seeds(0))

    assert sampler.mean_rates() == pytest.approx(np.full((2, 4), (21 + 14 + 10.5 + 4.5) / 4 * 1e6 / 8))


def test_a_device_s_visits_do_not_depend_on_which_others_there_are_nor_on_what_was_asked_before() -> None:
    link = load_link("roaming-wifi")
    few, many = Links([link] * 2, Seeds(0)), Links([load_link("home-wifi"), link, link, link], Seeds(0))
    moments = [7e4, 10.0, 3e5, 0.0, 1e5]

    expected = {moment: few.walks[1].point_at(moment) for moment in sorted(moments)}
    assert {moment: many.walks[1].point_at(moment) for moment in moments} == expected
    assert list(islice(few.replays[1][0].steps(5e4), 9)) == list(islice(many.replays[1][0].steps(5e4), 9))
    assert few.rates(0, 5e4).up_bytes_per_s[1] == many.rates(3, 5e4).up_bytes_per_s[1]
    other = Links([link] * 2, Seeds(1))
    assert list(islice(other.replays[1][0].steps(0.0), 5)) != list(islice(few.replays[1][0].steps(0.0), 5))


def test_the_point_changes_exactly_where_a_step_of_the_rate_ends() -> None:
    link = load_link("roaming-wifi")
    links = Links([link], Seeds(0))
    walk, now_s = links.walks[0], 0.0
    for bytes_per_s, end_s in islice(links.replays[0][0].steps(0.0), 200):
        assert walk.point_at(np.nextafter(end_s, 0.0)) == walk.point_at(now_s)
        if bytes_per_s:
            assert walk.point_at(end_s) != walk.point_at(now_s)
        assert links.rates(0, now_s).down_bytes_per_s[0] == bytes_per_s
        now_s = end_s


def test_devices_take_the_walks_of_a_trace_in_turn(tmp_path: Path, file_text: str) -> None:
    walks = (
        "# who seconds point\n7 5 office\n7 100 hall\n7,110.5,stairs\n\n3 0 laboratory\n3 50 laboratory\n3 60 office\n"
    )
    link = with_walks(tmp_path, file_text, walks)

    # Walk 3 comes first; a row for the same point is no hand-over. Gaps are at most 0.4 s.
    expected = {0: [(0, 0), (60, 1)], 1: [(0, 1), (100, 2), (110.5, 3)]}
    for device_id in range(4):
        for (linked_s, point), (start_s, named) in zip(
            visits(link, device_id, 1e6), expected[device_id % 2], strict=True
        ):
            assert point == named
            assert start_s <= linked_s <= start_s + 0.4
    assert link.recorded() == "2 walks with 6 visits to 4 access points"


def test_a_trace_with_a_period_begins_anew(tmp_path: Path, file_text: str) -> None:
    link = with_walks(tmp_path, file_text, "0 0 office\n0 40 hall\n1 0 stairs\n", "trace_period_s = 100")

    found = visits(link, 0, 250.0)
    assert [point for _, point in found] == [1, 2, 1, 2, 1, 2]
    assert [round(linked_s / 10) * 10 for linked_s, _ in found] == [0, 40, 100, 140, 200, 240]
    assert visits(link, 1, 1e6) == [(0.0, 3)]
    # 40 s at 14 and 60 s at 10.5 Mb/s; and the middle of 1 to 8.
    means = link.sampler(np.arange(2), 2, Seeds(0)).mean_rates()[0] * 8e-6
    assert means == pytest.approx([0.4 * 14 + 0.6 * 10.5, 4.5])


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("mean_dwell_s = 600", "mean_dwell_s = 0.5", "mine.toml: mean_dwell_s must be at least 1 s, got 0.5"),
        ("max_gap_ms = 400", "max_gap_ms = 40", "mine.toml: max_gap_ms must not be below min_gap_ms, got 40.0"),
        ('name = "hall"', 'name = "office"', r"mine.toml: point\[2\].name must differ .*, got 'office' twice"),
        ("mean_dwell_s = 600\n", "", "mine.toml: mean_dwell_s is missing"),
        ("shared_mbit_per_s = 200", "shared_mbit_per_s = 0", r"point\[0\].shared_mbit_per_s must be"),
        ("mean_dwell_s = 600", 'mean_dwell_s = 600\ntrace = "x"', "mean_dwell_s"),
    ],
)
def test_what_a_link_cannot_be_is_refused(tmp_path: Path, file_text: str, old: str, new: str, message: str) -> None:
    with pytest.raises(ProfileError, match=message):
        read(tmp_path, file_text.replace(old, new, 1))


def test_one_point_is_none_to_roam_between(tmp_path: Path, file_text: str) -> None:
    head, *points = file_text.partition("[provenance")[0].split("[[point]]")
    provenance = "".join(file_text.partition("[provenance")[1:])
    with pytest.raises(ProfileError, match="at least two access points to roam between, got 1"):
        read(tmp_path, f"{head}[[point]]{points[0]}{provenance}")


@pytest.mark.parametrize(
    ("walks", "message"),
    [
        ("0 0 cellar\n", "walks.txt: line 1: the link's points are .*'office'.*, got 'cellar'"),
        ("0 5 office\n0 5 hall\n", "walks.txt: line 2: the times of 0 must ascend, got 5.0 after 5.0"),
        ("0 office\n", "walks.txt: line 1 must be a number from 0 on, seconds and an access point, got '0 office'"),
        ("-1 0 office\n", "line 1 must be a number from 0 on"),
        ("0 nan office\n", "line 1 must be a number from 0 on"),
        ("0 0 office\n0 90 hall\n", "walks.txt: line 2: must be before trace_period_s, 60.0, got 90.0"),
        ("# nothing\n", "walks.txt: must have at least one line"),
    ],
)
def test_walks_that_cannot_be_are_refused(tmp_path: Path, file_text: str, walks: str, message: str) -> None:
    with pytest.raises(ProfileError, match=message):
        with_walks(tmp_path, file_text, walks, "trace_period_s = 60")
