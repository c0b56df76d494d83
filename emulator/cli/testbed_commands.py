"""The commands about what a testbed is made of: policies, and boards with their profiles."""

from pathlib import Path
from typing import Annotated, Literal

import typer

from emulator.cli import options
from emulator.errors import ConfigError


def policies(
    as_json: Annotated[bool, typer.Option("--json", help="For scripts.")] = False,
) -> None:
    """List the policies and their parameters."""
    from emulator.cli.listings import list_policies

    list_policies(as_json)


def devices(
    name: Annotated[str | None, typer.Argument(help="A device, cluster, link, system or swap; all without it.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="For scripts.")] = False,
) -> None:
    """List the devices, clusters and links, or show all figures of one with units and provenance."""
    from emulator.cli.listings import list_devices

    list_devices(name, as_json)


def price(
    device: Annotated[str, typer.Argument(help="A device that 'jetbed devices' lists, or a profile's TOML file.")],
    mode: Annotated[
        str | None, typer.Option(help="A power mode's name or number; the board's default without.")
    ] = None,
    model: Annotated[str, typer.Option(help="A built-in name, a directory with a config.json, or a hub id.")] = (
        "roberta-base"
    ),
    depth: Annotated[int | None, typer.Option(help="Tuned layers, from the output; all of them without.")] = None,
    rank: Annotated[int, typer.Option(help="LoRA rank.")] = 8,
    targets: Annotated[str, typer.Option(help="Adapted matrices: qv, all, or names separated by commas.")] = "qv",
    batch: Annotated[int, typer.Option(help="Examples in a step.")] = 8,
    seq: Annotated[int, typer.Option(help="Tokens in an example.")] = 128,
    precision: Annotated[Literal["fp32", "amp"], typer.Option(help="Arithmetic on the device.")] = "fp32",
    quantized_layers: Annotated[int, typer.Option(help="Tuned layers that keep quantized activations.")] = 0,
    activation_bits: Annotated[int, typer.Option(help="Bits of a quantized activation, 4 or 8.")] = 8,
    width: Annotated[float, typer.Option(help="Share of heads and feed-forward channels that pruning left.")] = 1.0,
    cut: Annotated[int | None, typer.Option(help="Layers on the device of a model that is split.")] = None,
    dropout: Annotated[bool, typer.Option("--dropout", help="Keep masks of what is dropped out.")] = False,
    base_precision: Annotated[
        Literal["float32", "bfloat16", "int8", "nf4"], typer.Option(help="What frozen weights are stored in.")
    ] = "float32",
    checkpointing: Annotated[
        bool, typer.Option("--checkpointing", help="Compute tuned layers again for their backward pass.")
    ] = False,
    accumulation_steps: Annotated[int, typer.Option(help="Passes in which the batch is computed.")] = 1,
    optimizer: Annotated[
        Literal["adamw", "adamw_8bit", "sgd"], typer.Option(help="What changes the parameters.")
    ] = "adamw",
    response: Annotated[
        int | None,
        typer.Option(help="Learnt tokens of an example of a language model; without it, a classifier."),
    ] = None,
    upload_compression: Annotated[
        Literal["none", "fp16", "bf16", "int8", "topk"], typer.Option(help="What is sent is encoded as.")
    ] = "none",
    download_compression: Annotated[
        Literal["none", "fp16", "bf16", "int8"], typer.Option(help="What is received is encoded as.")
    ] = "none",
    topk_fraction: Annotated[float, typer.Option(help="For topk: which share of the numbers is sent.")] = 0.01,
    full_finetune: Annotated[bool, typer.Option("--full-finetune", help="Train the layers whole.")] = False,
    desktop: Annotated[bool, typer.Option("--desktop", help="A desktop runs on the board, and takes memory.")] = False,
    swap: Annotated[
        str | None, typer.Option(help="Where goes what does not fit: nvme, emmc, zram, or a TOML file.")
    ] = None,
    inference: Annotated[bool, typer.Option("--inference", help="A forward pass alone.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="For scripts.")] = False,
) -> None:
    """Say what one local step would cost on a device: time, bytes, memory, energy, and how sure that is."""
    from emulator.cli.price import PriceRequest
    from emulator.cli.price_display import show_price

    request = PriceRequest(
        device=device,
        mode=mode,
        model=model,
        depth=depth,
        rank=rank,
        targets=targets,
        batch=batch,
        seq=seq,
        precision=precision,
        quantized_layers=quantized_layers,
        activation_bits=activation_bits,
        width=width,
        cut=cut,
        dropout=dropout,
        base_precision=base_precision,
        checkpointing=checkpointing,
        accumulation_steps=accumulation_steps,
        optimizer=optimizer,
        response=response,
        upload_compression=upload_compression,
        download_compression=download_compression,
        topk_fraction=topk_fraction,
        full_finetune=full_finetune,
        inference=inference,
        desktop=desktop,
        swap=swap,
    )
    show_price(request, as_json)


def calibrate(
    out: Annotated[Path | None, options.path_option(help="The profile's file, ending in .toml; new.")] = None,
    name: Annotated[str | None, typer.Option(help="The profile's title; the machine's own name without.")] = None,
    mode: Annotated[str, typer.Option(help="Name of the power mode that the machine is in.")] = "default",
    device: Annotated[str | None, typer.Option(help="cpu or cuda; cuda where there is one.")] = None,
    threads: Annotated[int | None, typer.Option(help="CPU threads; as many as PyTorch takes without.")] = None,
    quick: Annotated[bool, typer.Option("--quick", help="A small grid: less sure, for smaller models.")] = False,
    clock: Annotated[
        Literal["wall", "cpu"], typer.Option(help="cpu: with one thread, on a machine that has other work.")
    ] = "wall",
    watts: Annotated[str | None, typer.Option(metavar="IDLE,COMPUTE,TRANSFER", help="As read off a meter.")] = None,
    sensor: Annotated[
        str | None,
        typer.Option(metavar="RAIL,...", help="Power rails to add up, or rapl; without it, those of the whole board."),
    ] = None,
    power_log: Annotated[
        Path | None, options.path_option(help="Power out of a log of tegrastats or of jtop's logger.")
    ] = None,
    like: Annotated[
        str | None,
        typer.Option(metavar="PROFILE", help="Scale a known board's law instead of fitting one: quick, less sure."),
    ] = None,
    samples: Annotated[int | None, typer.Option(help="With --like: how many settings are timed; 12 without.")] = None,
    peer: Annotated[str | None, typer.Option(metavar="HOST:PORT", help="Measure the link to there, too.")] = None,
    serve: Annotated[
        int | None, typer.Option(metavar="PORT", help="Be the peer of another machine; measures nothing here.")
    ] = None,
) -> None:
    """Measure this machine, and write a profile of it that can be used like any other."""
    from emulator.cli import calibrate as command
    from emulator.running.interruption import all_or_nothing

    if (serve is None) == (out is None):
        raise ConfigError("give --out FILE.toml to measure this machine, or --serve PORT to be another machine's peer")
    with all_or_nothing():
        if serve is not None:
            command.serve_link(serve)
        elif out is not None:
            command.calibrate(
                command.CalibrationRequest(
                    out=out,
                    name=name,
                    mode=mode,
                    device=device,
                    threads=threads,
                    quick=quick,
                    clock=clock,
                    watts=watts,
                    sensor=sensor,
                    power_log=power_log,
                    peer=peer,
                    like=like,
                    samples=samples,
                )
            )


def validate(
    profile: Annotated[str, typer.Argument(help="A profile's TOML file, or a device that 'jetbed devices' lists.")],
    mode: Annotated[str | None, typer.Option(help="A power mode's name or number; the profile's default without.")] = (
        None
    ),
    device: Annotated[str | None, typer.Option(help="cpu or cuda; as the profile says without.")] = None,
    threads: Annotated[int | None, typer.Option(help="CPU threads; as the profile says without.")] = None,
    quick: Annotated[bool, typer.Option("--quick", help="Fewer and smaller settings, and no processes.")] = False,
    settings: Annotated[
        int | None, typer.Option(help="How many settings, two in five of them decoders; 25 without.")
    ] = None,
    clock: Annotated[
        Literal["wall", "cpu"], typer.Option(help="cpu: with one thread, on a machine that has other work.")
    ] = "wall",
    csv: Annotated[str | None, options.place_option(help="Write the settings with both times to this file.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="For scripts.")] = False,
) -> None:
    """Time steps on this machine that no profile was fitted to, beside what a profile says of them."""
    from emulator.cli import validate as command
    from emulator.running.interruption import all_or_nothing

    with all_or_nothing():
        command.validate(
            command.ValidationRequest(
                profile=profile,
                mode=mode,
                device=device,
                threads=threads,
                quick=quick,
                settings=settings,
                clock=clock,
                csv=options.given_place(csv),
            ),
            as_json,
        )


def import_(
    kind: Annotated[str, typer.Argument(help="fedscale, flhetbench, colext, mahimahi or throughput.")],
    file: Annotated[Path, options.path_argument(help="The recording.")],
    out: Annotated[str, options.place_option(help="The trace's file; what is there is replaced.")],
    window_s: Annotated[
        float | None, typer.Option(help="mahimahi: seconds over which packets are counted; 1 without.")
    ] = None,
    unit: Annotated[
        str | None, typer.Option(help="throughput: Mb/s, kB/s, ...; as such files have it without.")
    ] = None,
    time_column: Annotated[str | None, typer.Option(help="Of a table: where its times are.")] = None,
    rate_column: Annotated[str | None, typer.Option(help="throughput: where the rates are.")] = None,
    only: Annotated[
        str | None, typer.Option(metavar="COLUMN=VALUE", help="Of a table: the rows that have this.")
    ] = None,
) -> None:
    """Turn a recording of another project into a trace that devices or links replay."""
    from emulator.cli.importing import import_recording
    from emulator.running.interruption import all_or_nothing
    from emulator.storage.places import place

    with all_or_nothing():
        import_recording(
            kind,
            file,
            place(out),
            window_s=window_s,
            unit=unit,
            time_column=time_column,
            rate_column=rate_column,
            only=only,
        )
