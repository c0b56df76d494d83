"""Payloads as they travel: how many bytes they take, what a device reads, and what the server reads of its update."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from emulator.compression.encodings import FLOAT_BYTES, Vector, decoded, encoded, encoded_bytes
from emulator.forms.base import AdapterForm
from emulator.records import Arrays, Assignment, Compression, Encoding, Job, Update
from emulator.seeds import Seeds
from emulator.shapes.spec import ModelSpec


def download_bytes(form: AdapterForm, assignment: Assignment, model: ModelSpec, compression: Compression) -> int:
    """Bytes that the server sends to a device, in the shapes of the priced ``model``."""
    plain = form.plain_download_bytes(assignment, model)
    return plain + _as_encoded(compression.download, form.download_bytes(assignment, model) - plain)


def upload_bytes(form: AdapterForm, assignment: Assignment, model: ModelSpec, compression: Compression) -> int:
    """Bytes that a device sends back, in the shapes of the priced ``model``."""
    plain = form.plain_upload_bytes(assignment, model)
    return plain + _as_encoded(compression.upload, form.upload_bytes(assignment, model) - plain)


def received(form: AdapterForm, job: Job, compression: Compression, seeds: Seeds) -> Arrays:
    """What a device holds when it begins ``job``: the server's arrays as it reads them, and what it makes itself."""
    held = form.project(job.state, job.assignment)
    if compression.download.kind == "none":
        return held
    names = [name for name in held if form.is_received(name)]
    rng = seeds.rng("download_rounding", job.round_index, job.inner_round, job.device_id)
    read = _read(compression.download, _joined(held, sorted(names)), rng)
    return {**held, **_parted(read, held, sorted(names))}


def sent(form: AdapterForm, job: Job, update: Update, compression: Compression, seeds: Seeds) -> Update:
    """``update`` as the server has it, in the place of what the device has trained.

    Where uploads are compressed, what travels is the change of the device's arrays since it received them, as in FedPAQ
    (Reisizadeh et al. 2020, arXiv 1909.13014, section 3). The server adds what it reads of it to its own values. With
    error feedback (Seide et al. 2014; Karimireddy et al. 2019, arXiv 1901.09847, algorithm 1) the device first adds
    what its earlier uploads have lost, ``job.unsent``, and keeps what this one loses.
    """
    if compression.upload.kind == "none":
        return update
    names, before = sorted(update.payload), received(form, job, compression, seeds)
    change = _joined(update.payload, names) - _joined(before, names)
    if compression.error_feedback:
        change += _joined(_fitting(job.unsent, update.payload), names)
    rng = seeds.rng("upload_rounding", job.round_index, job.inner_round, job.device_id)
    read = _read(compression.upload, change, rng)
    known = form.project(job.state, job.assignment)
    payload = _parted(_joined(known, names) + read, update.payload, names)
    if not compression.error_feedback:
        return replace(update, payload=payload)
    return replace(update, payload=payload, unsent={**job.unsent, **_parted(change - read, update.payload, names)})


def _as_encoded(encoding: Encoding, float_bytes: int) -> int:
    """What ``float_bytes`` of float32 take where they are encoded."""
    if encoding.kind == "none":
        return float_bytes
    return encoded_bytes(encoding, float_bytes // FLOAT_BYTES)


def _read(encoding: Encoding, values: Vector, rng: np.random.Generator) -> Vector:
    return decoded(encoding, encoded(encoding, values, rng), len(values))


def _fitting(unsent: Arrays, payload: Arrays) -> Arrays:
    """What a device has kept of each array of ``payload``; nothing of one that it had in another shape."""
    return {
        name: unsent[name] if name in unsent and unsent[name].shape == array.shape else np.zeros_like(array)
        for name, array in payload.items()
    }


def _joined(arrays: Arrays, names: Sequence[str]) -> Vector:
    """The arrays ``names``, one behind another, ``(n,)``."""
    return np.concatenate([np.zeros(0, np.float32), *(arrays[name].reshape(-1) for name in names)]).astype(np.float32)


def _parted(values: Vector, like: Arrays, names: Sequence[str]) -> dict[str, Vector]:
    """``values (n,)`` as arrays with the shapes of those in ``like``."""
    stops = np.cumsum([like[name].size for name in names])
    return {
        name: values[stop - like[name].size : stop].reshape(like[name].shape)
        for name, stop in zip(names, stops, strict=True)
    }
