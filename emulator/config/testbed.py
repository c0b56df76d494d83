"""``[testbed]``: the emulated devices, and when they can be reached."""

from typing import Annotated, Any, Literal

from pydantic import Field, field_validator

from emulator.config.section import CountOrZero, NameOrPath, Positive, ProperFraction, Section


class AvailabilityConfig(Section):
    """When the devices can be reached, and how often they fail in the middle of a round."""

    kind: Literal["always", "on_off", "trace", "battery"] = "always"
    """always; on_off: each device by itself is on and off in turns, for exponentially distributed times; trace: in the
    spans of time that a file lists; battery: while its battery lasts, which
    is emptied by what the device draws and filled by a charger."""
    mean_on_s: Positive | None = None
    """For on_off: for how long a device can be reached, on average, in emulated seconds; at least 0.001."""
    mean_off_s: Positive | None = None
    """For on_off: for how long it cannot; at least 0.001."""
    trace: NameOrPath | None = None
    """For trace: a Parquet or text file with the columns device_id, start_s and end_s, one row for each span in which a
    device can be reached."""
    origin_s: Annotated[float, Field(ge=0)] | Literal["first"] = 0.0
    """For trace: the moment of the trace at which the run begins, in seconds; first: that at which the first of its
    devices can be reached. What the trace has before it is left out."""
    trace_offset_s: Annotated[float, Field(ge=0)] = 0.0
    """For trace: how far into it, counted from its origin, the run begins, in seconds of the trace. Where it does not
    loop, that is the same as a later origin."""
    trace_loop: bool = False
    """For trace: it begins anew at its origin when it is over, again and again; else nobody comes back after that."""
    trace_period_s: Positive | None = None
    """For trace with trace_loop: how many of its seconds, from its origin on, are repeated, such as 86400 for a day;
    what comes later is left out. Without it, all up to the end of its last span."""
    trace_time_scale: Annotated[float, Field(ge=1e-6, le=1e6)] = 1.0
    """For trace: how many emulated seconds one of its seconds lasts; with 0.1 it goes by ten times as fast."""
    battery_capacity_j: Positive | None = None
    """For battery: what a device's battery holds, in joules (3600 are a watt-hour); at least 1000."""
    battery_start_fraction: Annotated[float, Field(ge=0, le=1)] = 1.0
    """For battery: how full it is when the run begins."""
    battery_least_fraction: Annotated[float, Field(ge=0, le=1)] = 0.0
    """For battery: a device takes part in a round only if its battery is at least as full as this when the round
    begins; once in it, it goes on until it is empty."""
    charge_w: Annotated[float, Field(ge=0)] = 0.0
    """For battery: what a charger gives to a device that is plugged in, in watts, beside which the device draws."""
    plugged_from_s: Annotated[float, Field(ge=0)] = 0.0
    """For battery: when in each period the devices are plugged in, in emulated seconds after its beginning."""
    plugged_until_s: Annotated[float, Field(ge=0)] = 0.0
    """For battery: when they are unplugged; before plugged_from_s for a night across two periods. They are never
    plugged in where both are the same."""
    plugged_period_s: Annotated[float, Field(ge=1)] = 86400.0
    """For battery: how long a period is, in emulated seconds."""
    drop_out_fraction: Annotated[float, Field(ge=0, le=1)] = 0.0
    """Share of device-rounds in which a device of the cohort fails in the middle of its computation."""


class ForegroundConfig(Section):
    """Other programs on the devices, which take a share of their compute while they run."""

    kind: Literal["none", "on_off", "schedule"] = "none"
    """none; on_off: on each device by itself they run and do not run in turns, for exponentially distributed times;
    schedule: at the same hours on all devices."""
    compute_fraction: ProperFraction | None = None
    """For on_off and schedule: the share of a device's compute that they take while they run."""
    mean_on_s: Positive | None = None
    """For on_off: for how long they run, on average, in emulated seconds; at least 1."""
    mean_off_s: Positive | None = None
    """For on_off: for how long they do not; at least 1."""
    from_s: Annotated[float, Field(ge=0)] = 0.0
    """For schedule: when in each period they begin, in emulated seconds after its beginning."""
    until_s: Annotated[float, Field(ge=0)] = 0.0
    """For schedule: when they end; before from_s for a span across two periods."""
    period_s: Annotated[float, Field(ge=1)] = 86400.0
    """For schedule: how long a period is, in emulated seconds."""


class ModeChangeConfig(Section):
    """From when on all boards of a kind are in one of their power modes; an entry of testbed.mode_changes."""

    device: str
    """The kind of board, as the cluster names it."""
    mode: str
    """The power mode, one that the cluster lets it be in."""
    from_round: CountOrZero = 0
    """From this round on."""
    from_s: Annotated[float, Field(ge=0)] = 0.0
    """From the first round on that begins at this moment of emulated time or later."""


class TestbedConfig(Section):
    """The emulated devices."""

    cluster: NameOrPath = "jetson80"
    """A built-in cluster (see jetbed devices) or a TOML file."""
    link: NameOrPath | None = None
    """A built-in link (see jetbed devices) or a TOML file for all devices; without it, each has that of its cluster."""
    system: NameOrPath | None = None
    """The software of the federation, whose polling, launching and packing take time and bytes: a built-in system (see
    jetbed devices) or a TOML file. Without it, messages are known at once and cost their payload."""
    n_devices: Annotated[int, Field(gt=0, le=1_000_000)] | None = None
    """How many devices, in the cluster's proportions; without it, the cluster as it is."""
    compute_heterogeneity: Annotated[float, Field(ge=0, le=10)] = 1.0
    """How wide the devices' speeds are spread about the same mean: their logarithms, over devices and power modes, as
    many times as wide as the cluster has them. With 0 all are alike, with 1 as they are."""
    memory_heterogeneity: Annotated[float, Field(ge=0, le=10)] = 1.0
    """The same for the memory of devices."""
    link_heterogeneity: Annotated[float, Field(ge=0, le=10)] = 1.0
    """The same for the mean rates of the devices' links, down and up; how rates fluctuate about them stays."""
    desktop: bool = False
    """Whether the boards run a desktop, which takes of the memory that training could use; else they are headless."""
    swap: NameOrPath | None = None
    """Where a step's bytes go that do not fit into a board's memory, at the cost of time: a built-in swap (nvme, emmc,
    zram) or a TOML file. Without it, such a step fails. Policies are told of the memory alone."""
    precision: Literal["fp32", "amp"] = "fp32"
    """Arithmetic on the devices, as priced: fp32, or mixed precision (amp)."""
    server_tflop_per_s: Positive | None = None
    """What the server computes with where it trains a part of the model itself, in 10^12 FLOP/s. Without it, that
    costs no time, as in the time model of MergeSFL, whose server has four RTX 2080 Ti of 13 each, at their peak in
    fp32."""
    availability: AvailabilityConfig = AvailabilityConfig()
    foreground: ForegroundConfig = ForegroundConfig()
    mode_changes: tuple[ModeChangeConfig, ...] = ()
    """Power modes by schedule, in the place of those that are drawn: a list of tables {device = "jetson_tx2",
    mode = "MAXQ", from_round = 10}, or with from_s, a moment of emulated time. Of those that apply to a device, the
    last counts. A mode lasts for whole rounds."""

    @field_validator("mode_changes", mode="before")
    @classmethod
    def _list_of_changes(cls, value: Any) -> Any:
        return tuple(value) if isinstance(value, list) else value
