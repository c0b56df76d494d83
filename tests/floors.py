"""The rooms of the source in the order of their floors, and what each may import: an allow list, and nothing else.

``ARCHITECTURE.md`` has its map from here: ``python -m tests.references`` writes it.
"""

from dataclasses import dataclass


@dataclass(frozen=True)
class Room:
    """A folder or a file, with what it holds.

    Attributes:
        path: from the repository's root; a file without its ``.py``. The most specific room is the one that counts.
        holds: what a newcomer finds there.
        imports: lower rooms that it may import, in any way: inside a function or for type checking, too.
        libraries: third-party packages that it may import, beside numpy.
        reads_clock: whether it may read wall clocks, or random state that no seed of the run governs.
    """

    path: str
    holds: str
    imports: tuple[str, ...] = ()
    libraries: tuple[str, ...] = ()
    reads_clock: bool = False

    def contains(self, path: str) -> bool:
        """Whether the file at ``path`` lies in the room, or in one within it."""
        return path == f"{self.path}.py" or path.startswith(f"{self.path}/")


def _names(words: str) -> tuple[str, ...]:
    """``words`` as rooms of ``emulator/``; those with a slash in front lie at the top."""
    return tuple(word[1:] if word.startswith("/") else f"emulator/{word}" for word in words.split())


FLOORS: tuple[Room, ...] = (
    Room("device_profiles/text_files", "the files that users name, and their text"),
    Room(
        "device_profiles",
        "boards, clusters and links as TOML; the catalog that reads them",
        ("device_profiles/text_files",),
        ("pyarrow",),
    ),
    Room("emulator/errors", "what a user can mend, said in one sentence"),
    Room("emulator/seeds", "streams of chance by seed, purpose and round", reads_clock=True),
    Room(
        "emulator/storage",
        "where files lie, on this machine or behind a URL, and how they are written whole",
        _names("errors /device_profiles/text_files"),
        ("pyarrow",),
    ),
    Room(
        "emulator/storage/patience",
        "how long a write waits for a disk or storage that takes nothing",
        _names("errors storage"),
        reads_clock=True,
    ),
    Room("emulator/running/limits", "what is left to this process, by machine and control groups"),
    Room("emulator/shapes/hub", "what the hub is asked, and for how long", _names("errors"), ("huggingface_hub",)),
    Room("emulator/shapes/gguf_file", "what a GGUF file says of its model", _names("errors"), ("gguf",)),
    Room(
        "emulator/shapes",
        "models without weights: sizes by name, and what lies in their directories",
        _names("errors shapes/gguf_file shapes/hub /device_profiles/text_files"),
    ),
    Room("emulator/records", "what crosses a border: frozen records", _names("shapes")),
    Room("emulator/objective", "what is learnt, as server and boards know it", _names("errors records shapes")),
    Room("emulator/forms", "adapter forms in numpy: what is shipped", _names("records seeds shapes")),
    Room(
        "emulator/compression",
        "how payloads are encoded on their way, and how many bytes that takes",
        _names("forms records seeds shapes"),
    ),
    Room(
        "emulator/running/checkpoints",
        "what a run goes on from",
        _names("errors storage storage/patience records"),
        ("safetensors",),
    ),
    Room("emulator/algorithms", "pure functions that policies are composed of", _names("forms records")),
    Room("emulator/world/clock", "the virtual clock"),
    Room("emulator/world/price", "what a step costs", _names("compression records shapes /device_profiles")),
    Room(
        "emulator/world/network",
        "links and what they share",
        _names("seeds world/clock /device_profiles"),
    ),
    Room(
        "emulator/world",
        "the testbed: devices, ledgers, availability, power modes",
        _names("compression errors forms records seeds shapes world/clock world/price world/network /device_profiles "
               "/device_profiles/text_files"),
        ("pyarrow",),
    ),
    Room(
        "emulator/protocols",
        "who waits for whom: rounds as generators over the testbed's verbs",
        _names("algorithms errors forms records world world/clock"),
    ),
    Room(
        "emulator/policy",
        "the contract of policies, safe calls of them, a round of one, and where they are found",
        _names("algorithms errors forms protocols records shapes world world/clock"),
        ("pydantic",),
    ),
    Room(
        "policies",
        "one file per system",
        _names("algorithms compression errors forms policy protocols records shapes world/price"),
    ),
    Room(
        "emulator/testing",
        "the conformance suite for policies, and small testbeds",
        _names("errors forms policy records running/checkpoints seeds shapes world world/clock world/network "
               "/device_profiles"),
        reads_clock=True,
    ),
    Room("emulator/learning/settings", "what may move the last bits of a result", _names("records")),
    Room("emulator/learning/upload", "how arrays come to where a model computes", (), ("torch",)),
    Room("emulator/learning/blockwise", "numbers in few bits, block by block", (), ("torch",)),
    Room("emulator/learning/builtin", "the built-in model and task", _names("errors seeds"), reads_clock=True),
    Room(
        "emulator/learning/data",
        "texts and images: read, tokenised, partitioned, drawn in batches",
        _names("errors learning/builtin learning/upload records seeds shapes shapes/hub /device_profiles/text_files"),
        ("datasets", "pyarrow", "sklearn", "torch"),
    ),
    Room(
        "emulator/learning/model",
        "the model that is trained, and what makes a pass of many devices cheap",
        _names("errors forms learning/blockwise learning/data learning/upload records seeds shapes shapes/hub"),
        ("peft", "safetensors", "torch", "transformers"),
    ),
    Room(
        "emulator/learning/model/probe",
        "a training step that is timed, for calibration",
        _names("learning/model records shapes"),
        ("peft", "torch", "transformers"),
        reads_clock=True,
    ),
    Room(
        "emulator/learning/attach",
        "adapter forms in torch: how they attach to the model",
        _names("errors forms learning/data learning/model learning/upload records shapes"),
        ("peft", "safetensors", "torch", "transformers"),
    ),
    Room(
        "emulator/learning/objective",
        "what is learnt: rows as batches, their loss, and the score of held-out rows",
        _names("errors learning/data learning/model objective records shapes"),
        ("torch",),
    ),
    Room(
        "emulator/learning/host",
        "a host: resident model and data, and what it can be asked for",
        _names(
            "compression errors forms learning/attach learning/data learning/model learning/objective "
            "learning/settings objective records seeds",
        ),
        ("torch",),
    ),
    Room(
        "emulator/learning/optimizer",
        "AdamW and SGD for the devices of a stack, and what is done to gradients before",
        _names("learning/attach learning/blockwise learning/upload records"),
        ("torch",),
    ),
    Room(
        "emulator/learning/local_training",
        "local training of a stack of devices",
        _names("compression forms learning/data learning/host learning/model learning/optimizer records seeds"),
        ("torch",),
    ),
    Room(
        "emulator/learning/cut",
        "training of models that are cut",
        _names("forms learning/data learning/host learning/local_training learning/objective learning/settings "
               "learning/upload records "
               "seeds shapes"),
        ("torch",),
    ),
    Room(
        "emulator/learning/tasks",
        "what hosts compute for a job",
        _names(
            "algorithms forms learning/attach learning/cut learning/host learning/local_training learning/upload "
            "records"
        ),
        ("torch",),
    ),
    Room(
        "emulator/learning/prepare",
        "model and data, read once and shared out",
        _names(
            "errors learning/cut learning/data learning/host learning/model learning/objective objective records seeds "
            "shapes"
        ),
    ),
    Room("emulator/learning", "the only place of torch"),
    Room("emulator/backends/kinds", "kinds of backends: what is asked of one before it starts", _names("errors")),
    Room(
        "emulator/config",
        "a run's configuration",
        _names("backends/kinds errors /device_profiles/text_files"),
        ("pydantic", "pydantic_core"),
    ),
    Room("emulator/results/version", "the version, as runs state it"),
    Room(
        "emulator/results",
        "schemas, rows, writer, reader, invariants; the layout of a sweep",
        _names("errors storage storage/patience records world"),
        ("pandas", "pyarrow"),
        reads_clock=True,
    ),
    Room(
        "emulator/analysis",
        "metrics of runs and comparisons",
        _names("errors objective records results"),
        ("pandas",),
    ),
    Room("emulator/observers", "who watches a run: the contract, and what passes events on",
         _names("config errors storage policy records")),
    Room("emulator/observers/tensorboard", "draws a run in TensorBoard", _names("observers"), ("tensorboard",)),
    Room("emulator/observers/mlflow", "logs a run to MLflow", _names("observers"), ("mlflow",)),
    Room("emulator/observers/wandb", "logs a run to Weights & Biases", _names("observers"), ("wandb",)),
    Room(
        "emulator/running",
        "what makes a run go: inputs, composition, rounds, pace, interruption",
        _names(
            "algorithms config errors forms objective observers policy records results running/checkpoints "
            "running/limits seeds shapes storage storage/patience world world/clock world/network /device_profiles "
            "/device_profiles/text_files",
        ),
        reads_clock=True,
    ),
    Room(
        "emulator/backends",
        "hosts in this process or on Ray",
        _names("algorithms backends/kinds config errors seeds storage forms learning/cut learning/host learning/model "
               "learning/prepare learning/settings running/limits learning/data objective observers "
               "records results running shapes"),
        ("ray", "torch"),
        reads_clock=True,
    ),
    Room(
        "emulator/launch",
        "starts a run on its backend, looks at one before it starts, and gives one to a script",
        _names("backends backends/kinds config errors observers storage policy records results running seeds shapes "
               "world world/clock /device_profiles /device_profiles/text_files"),
        reads_clock=True,
    ),
    Room(
        "emulator/sweeps",
        "many runs from one file",
        _names("backends backends/kinds config errors launch storage storage/patience observers results running "
               "shapes /device_profiles /device_profiles/text_files"),
        ("pyarrow",),
        reads_clock=True,
    ),
    Room(
        "emulator/report/terminal",
        "what a terminal shows of results",
        _names("analysis objective records results"),
        ("pandas", "rich"),
        reads_clock=True,
    ),
    Room(
        "emulator/report",
        "the HTML page and the trace of runs",
        _names("analysis errors objective records report/terminal results results/version"),
        ("pandas", "plotly"),
        reads_clock=True,
    ),
    Room(
        "emulator/calibration",
        "measures this machine and writes a profile of it",
        _names("errors storage forms running/limits learning/model learning/model/probe records shapes world/price "
               "/device_profiles /device_profiles/text_files"),
        ("tomli_w",),
        reads_clock=True,
    ),
    Room(
        "emulator/merging",
        "a run's adapter merged into its base model",
        _names("errors learning/model results shapes/gguf_file"),
        ("peft", "safetensors", "torch", "transformers"),
    ),
    Room(
        "emulator/importing",
        "recordings of other projects, as trace files",
        _names("/device_profiles /device_profiles/text_files"),
        reads_clock=True,
    ),
    Room(
        "emulator/cli",
        "the command line",
        _names("analysis backends/kinds calibration config errors importing launch merging storage forms objective "
               "observers policy records report report/terminal results running shapes sweeps results/version "
               "world/price /device_profiles /device_profiles/text_files"),
        ("pandas", "pydantic", "rich", "tomli_w", "typer"),
        reads_clock=True,
    ),
    Room("emulator/__init__", "the names for scripts", _names("analysis config results launch results/version")),
)  # fmt: skip
"""From the lowest to the highest: a room imports lower ones alone, and of these only those that it names."""


def map_of_rooms() -> str:
    """The table of rooms for ``ARCHITECTURE.md``, from the lowest floor to the highest."""
    lines = ["| room | holds | imports | libraries | wall clock |", "|---|---|---|---|---|"]
    for room in FLOORS:
        imported = ", ".join(name.removeprefix("emulator/") for name in room.imports) or "–"
        clock = "may read it" if room.reads_clock else "–"
        lines.append(f"| `{room.path}` | {room.holds} | {imported} | {', '.join(room.libraries) or '–'} | {clock} |")
    return "\n".join(lines)
