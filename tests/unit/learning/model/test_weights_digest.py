"""A model's weights are told from others of the same shapes, however they lie in files."""

from pathlib import Path

import torch
from safetensors.torch import save_file

from emulator.learning.model.weights_digest import SAMPLE_BYTES, weights_digest

LARGE = torch.arange(3 * SAMPLE_BYTES // 4, dtype=torch.float32).view(-1, 16)
WEIGHTS = {
    "large": LARGE,
    "half": torch.ones(3, 5, dtype=torch.bfloat16),
    "scalar": torch.tensor(2.5),
    "none": torch.zeros(0, 4),
}


def saved(folder: Path, *parts: dict[str, torch.Tensor]) -> list[Path]:
    folder.mkdir()
    files = [folder / f"part-{number}.safetensors" for number in range(len(parts))]
    for file, part in zip(files, parts, strict=True):
        save_file(part, file)
    return files


def test_files_and_order_do_not_matter(tmp_path: Path) -> None:
    whole = weights_digest(saved(tmp_path / "whole", WEIGHTS))
    names = sorted(WEIGHTS, reverse=True)
    parts = [{name: WEIGHTS[name] for name in each} for each in (names[:1], names[1:])]

    assert weights_digest(saved(tmp_path / "parts", *parts)) == whole


def test_names_types_shapes_and_values_matter(tmp_path: Path) -> None:
    others = [
        {**WEIGHTS, "scalar": torch.tensor(2.25)},
        {**WEIGHTS, "half": WEIGHTS["half"].to(torch.float16)},
        {**WEIGHTS, "half": WEIGHTS["half"].view(5, 3)},
        {**WEIGHTS, "large": LARGE + 1},
        {("small" if name == "large" else name): array for name, array in WEIGHTS.items()},
        {name: array for name, array in WEIGHTS.items() if name != "none"},
    ]
    digests = {weights_digest(saved(tmp_path / str(k), each)) for k, each in enumerate([WEIGHTS, *others])}

    assert len(digests) == 7


def test_of_a_large_tensor_the_first_rows_alone_are_read(tmp_path: Path) -> None:
    n_rows = SAMPLE_BYTES // (4 * 16)
    early, late = LARGE.clone(), LARGE.clone()
    early[n_rows - 1, 0] = -1.0
    late[n_rows, 0] = -1.0
    plain, changed, beyond = (
        weights_digest(saved(tmp_path / name, {"large": array}))
        for name, array in (("plain", LARGE), ("early", early), ("late", late))
    )

    assert plain != changed
    assert plain == beyond


def test_a_gguf_file_is_sampled(tmp_path: Path) -> None:
    file, other = tmp_path / "one.gguf", tmp_path / "other.gguf"
    content = bytes(range(256)) * 2000
    file.write_bytes(content)
    other.write_bytes(content[:-1] + b"x")

    assert weights_digest([file]) == weights_digest([file])
    assert weights_digest([file]) != weights_digest([other])
