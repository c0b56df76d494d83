"""The folder ``checkpoint/`` of a run: server state, memory of the policy, and all plans, written whole and verified.

``checkpoint.json`` is replaced last and names the other files with their digests; whatever it does not name is left
over from a death and goes with the next checkpoint. Plans are never written twice: each checkpoint adds a file of those
since the one before.
"""

import hashlib
import json
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import load as load_arrays
from safetensors.numpy import save as save_arrays

from emulator.records import Arrays, RoundPlan
from emulator.running.checkpoints.codec import CheckpointError, Encoded, check_readable, decoded, encoded
from emulator.storage.files import make_folder, write_durably
from emulator.storage.patience import Patience
from emulator.storage.places import Place, listed

FOLDER = "checkpoint"
INDEX = "checkpoint.json"
SCHEMA_VERSION = 2
"""Grows when a file of the folder changes its name or meaning."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Checkpoint:
    """A run between two rounds.

    Attributes:
        n_rounds: rounds that are done.
        states: server states by the round that began with them: that of the next round, and earlier ones from which
            devices are still at work.
        memory: what the policy has learned.
        totals: what the display adds up over rounds.
        plans: of all rounds that are done, in their order.
    """

    n_rounds: int
    states: Mapping[int, Arrays]
    memory: Mapping[str, object]
    totals: Mapping[str, object]
    plans: Sequence[RoundPlan]


@dataclass
class CheckpointWriter:
    """Writes the checkpoints of one run, one in the place of the other; ``modules`` are as for their reader."""

    folder: Place
    patience: Patience = field(default_factory=Patience)
    modules: Collection[str] = ()
    _plan_files: dict[str, str] = field(default_factory=dict)
    _n_plans: int = 0

    def write(self, checkpoint: Checkpoint) -> None:
        """Replace the checkpoint of before.

        Raises:
            CheckpointError: the memory or a plan holds what cannot be kept, or not read back.
            UserError: the disk cannot be written; the checkpoint of before is still whole.
        """
        n_rounds = checkpoint.n_rounds
        self._insist(partial(make_folder, self.folder, parents=False), self.folder)
        if n_rounds > self._n_plans:
            span = f"plans-{self._n_plans:06d}-{n_rounds - 1:06d}"
            plans = encoded(list(checkpoint.plans[self._n_plans :]), "the plan")
            self._plan_files |= self._write_value(span, plans)
            self._n_plans = n_rounds
        files = dict(self._plan_files)
        memory = encoded({"memory": checkpoint.memory, "totals": checkpoint.totals}, "the policy")
        files |= self._write_value(f"memory-{n_rounds:06d}", memory)
        for round_index, state in checkpoint.states.items():
            # The state with which a round began is the same in every checkpoint.
            files |= self._write(f"state-{round_index:06d}.safetensors", _arrays_as_bytes(state))
        index = {
            "schema_version": SCHEMA_VERSION,
            "n_rounds": n_rounds,
            "states": sorted(checkpoint.states),
            "files": files,
        }
        self._write(INDEX, json.dumps(index, indent=2).encode())
        self._insist(partial(_remove_others, self.folder, {*files, INDEX}), self.folder)

    def goes_on_from(self, folder_index: Mapping[str, Any]) -> None:
        """Take over the plans that an earlier process has written."""
        names = folder_index["files"]
        self._plan_files = {name: digest for name, digest in names.items() if name.startswith("plans-")}
        self._n_plans = folder_index["n_rounds"]

    def _write_value(self, name: str, value: Encoded) -> dict[str, str]:
        check_readable(value, self.modules)
        files = self._write(f"{name}.json", json.dumps(value.document, separators=(",", ":")).encode())
        if value.arrays:
            files |= self._write(f"{name}.safetensors", _arrays_as_bytes(value.arrays))
        return files

    def _write(self, name: str, content: bytes) -> dict[str, str]:
        """Write a file whole or not at all; its name with its digest."""
        self._insist(partial(write_durably, self.folder / name, content), self.folder / name)
        return {name: hashlib.sha256(content).hexdigest()}

    def _insist(self, write: Callable[[], None], path: Place) -> None:
        self.patience.insist(write, "a checkpoint", path)


def _remove_others(folder: Place, names: Collection[str]) -> None:
    """Remove all files of ``folder`` but those of these names."""
    for path in listed(folder):
        if path.name not in names:
            path.unlink(missing_ok=True)


def has_checkpoint(run_dir: Place) -> bool:
    """Whether the run in this folder has been checkpointed."""
    return (run_dir / FOLDER / INDEX).is_file()


def read_index(folder: Place) -> dict[str, Any]:
    """What ``checkpoint.json`` says; every file that it names is there and as it was written.

    Raises:
        CheckpointError: it is not there, damaged, or of a later version; or another file is.
    """
    path = folder / INDEX
    try:
        index: dict[str, Any] = json.loads(path.read_bytes())
        version, files = int(index["schema_version"]), dict(index["files"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise CheckpointError(f"there is no checkpoint to go on from ({error}): {str(path)!r}") from None
    if version > SCHEMA_VERSION:
        raise CheckpointError(
            f"the checkpoint was written by a later version of jetbed (schema {version}): {str(path)!r}"
        )
    for name, digest in files.items():
        try:
            is_whole = hashlib.sha256((folder / name).read_bytes()).hexdigest() == digest
        except OSError:
            is_whole = False
        if not is_whole:
            raise CheckpointError(f"the checkpoint is damaged, start the run anew: {str(folder / name)!r}")
    return index


def read_checkpoint(folder: Place, modules: Collection[str] = ()) -> Checkpoint:
    """The checkpoint in ``folder``; ``modules`` are packages of the user's own whose classes may be in it.

    Raises:
        CheckpointError: as for :func:`read_index`, or it holds what is not known.
    """
    index = read_index(folder)
    plan_files = sorted(name for name in index["files"] if name.startswith("plans-") and name.endswith(".json"))
    plans: list[RoundPlan] = []
    for name in plan_files:
        plans += _read_value(folder, name, modules)
    kept = _read_value(folder, f"memory-{index['n_rounds']:06d}.json", modules)
    states = {number: _read_arrays(folder / f"state-{number:06d}.safetensors") for number in index["states"]}
    if len(plans) != index["n_rounds"] or index["n_rounds"] not in states:
        raise CheckpointError(f"the checkpoint is damaged, start the run anew: {str(folder / INDEX)!r}")
    return Checkpoint(
        n_rounds=index["n_rounds"],
        states=states,
        memory=kept["memory"],
        totals=kept["totals"],
        plans=plans,
    )


def _read_value(folder: Place, name: str, modules: Collection[str]) -> Any:
    arrays_path = (folder / name).with_suffix(".safetensors")
    arrays = _read_arrays(arrays_path) if arrays_path.exists() else {}
    return decoded(Encoded(json.loads((folder / name).read_bytes()), arrays), modules)


def _read_arrays(path: Place) -> dict[str, NDArray[Any]]:
    content = path.read_bytes()
    arrays = load_arrays(content)
    header = json.loads(content[8 : 8 + int.from_bytes(content[:8], "little")])
    return {name: arrays[name] for name in json.loads(header["__metadata__"]["order"])}


def _arrays_as_bytes(arrays: Mapping[str, NDArray[Any]]) -> bytes:
    """The arrays as a safetensors file, whose own order is by size; a policy may go through a state in its order."""
    plain = {name: np.ascontiguousarray(array) for name, array in arrays.items()}
    return save_arrays(plain, metadata={"order": json.dumps(list(arrays))})
