"""Where labelled texts come from, as a record that is passed on."""

import os
from dataclasses import dataclass, field

from device_profiles.text_files import user_path
from emulator.learning.data.parts import is_local
from emulator.learning.data.tables import Column, FileLayout
from emulator.learning.data.texts import BUILTIN, TextData, load_data

EARLY_BYTES = 2**26
"""Files of up to this size are read in a moment."""


@dataclass(frozen=True, kw_only=True, slots=True)
class DataSource:
    """Where labelled texts come from; see :func:`emulator.learning.data.texts.load_data`."""

    source: str
    text_column: Column = "text"
    label_column: Column = "label"
    test_source: str | None = None
    test_fraction: float = 0.1
    n_train: int | None = None
    n_test: int | None = None
    layout: FileLayout = field(default_factory=FileLayout)
    configuration: str | None = None
    text_pair_column: Column | None = None
    prompt_column: Column | None = None
    response_column: Column | None = None
    template: str | None = None
    messages_column: Column | None = None
    options_column: Column | tuple[Column, ...] | None = None
    answer_column: Column | None = None
    label_separator: str = ","
    owner_column: Column | None = None

    def load(self, seed: int) -> TextData:
        """Reads them; ``seed`` is the run's."""
        return load_data(
            self.source,
            text_column=self.text_column,
            label_column=self.label_column,
            test_source=self.test_source,
            test_fraction=self.test_fraction,
            n_train=self.n_train,
            n_test=self.n_test,
            layout=self.layout,
            configuration=self.configuration,
            text_pair_column=self.text_pair_column,
            owner_column=self.owner_column,
            seed=seed,
        )

    def can_be_read_early(self) -> bool:
        """Whether reading costs a moment and no network: local files that are not there at all, or not large."""
        sources = [source for source in (self.source, self.test_source) if source and source != BUILTIN]
        if not sources or not all(map(is_local, sources)):
            return False
        # os.path, since a name that is too long for a file is that of no file there, too.
        files = [path for source in sources if os.path.isfile(path := user_path(source))]
        return sum(file.stat().st_size for file in files) <= EARLY_BYTES


def load_texts(data: DataSource, seed: int) -> TextData:
    """The labelled texts of ``data``."""
    return data.load(seed)
