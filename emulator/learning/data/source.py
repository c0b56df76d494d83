"""Where labelled texts come from, as a record that is passed on."""

from dataclasses import dataclass, field

from emulator.learning.data.tables import Column, Layout
from emulator.learning.data.texts import TextData, load_data


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
    layout: Layout = field(default_factory=Layout)
    configuration: str = ""

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
            seed=seed,
        )
