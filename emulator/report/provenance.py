"""What was run and with what: configurations, versions, and digests of all that was read."""

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from emulator.report.markup import TableCell, folded, paragraph, table

_FACTS = {
    "trained_model": "trained model",
    "priced_model": "priced model",
    "cluster": "cluster",
    "n_devices": "devices",
    "n_train_examples": "training examples",
    "n_test_examples": "held-out examples",
    "majority_accuracy": "share of the majority class",
}
_DIGESTS = ("cluster_sha256", "profile_sha256", "link_sha256", "availability_trace_sha256")


def provenance(groups: Sequence[tuple[str, Mapping[str, Any]]]) -> str:
    """The settings in which the groups differ, then facts, digests and the whole configuration of each.

    ``groups`` holds the label of each group and the ``run.json`` of its first run.
    """
    flat = {label: dict(_flat(info.get("config") or {})) for label, info in groups}
    keys = list(dict.fromkeys(key for own in flat.values() for key in own))
    differing = [key for key in keys if len({repr(own.get(key)) for own in flat.values()}) > 1]
    parts = []
    if differing:
        rows = [
            [TableCell(key), *(TableCell(_text(own.get(key)), look="text") for own in flat.values())]
            for key in differing
        ]
        note = "A dash is a setting that a policy does not have."
        parts += ["<h3>Settings in which the groups differ</h3>", table(["setting", *flat], rows, note, 1 + len(flat))]
    parts.append("<h3>Models, data and devices</h3>")
    parts.append(_table_of(groups, dict(_FACTS), "Of the first run of each group."))
    parts.append("<h3>Versions and digests</h3>")
    parts.append(paragraph("SHA-256 of the files that describe the devices, links and cluster, as they were when run."))
    known = {key: key for _, info in groups for key in _origins(info)}
    merged = [(label, _origins(info)) for label, info in groups]
    parts.append(_table_of(merged, known, "Digests are cut to 16 digits; run.json has them whole."))
    parts.append("<h3>Configurations</h3>")
    for label, info in groups:
        lines = [f"{key} = {json.dumps(value, ensure_ascii=False)}" for key, value in flat[label].items()]
        parts.append(folded(f"{label}, seed {info.get('seed')}", "\n".join(lines)))
    return "\n".join(parts)


def _table_of(groups: Sequence[tuple[str, Mapping[str, Any]]], names: Mapping[str, str], caption: str) -> str:
    if all(len({_text(info.get(key)) for _, info in groups}) == 1 for key in names):
        groups = [("all groups" if len(groups) > 1 else groups[0][0], groups[0][1])]
    rows: list[list[str | TableCell]] = [
        [title, *(TableCell(_text(info.get(key)), look="text") for _, info in groups)]
        for key, title in names.items()
        if any(info.get(key) is not None for _, info in groups)
    ]
    return table(["", *(label for label, _ in groups)], rows, caption, 1 + len(groups))


def _origins(info: Mapping[str, Any]) -> dict[str, Any]:
    found = {f"{name} (version)": text for name, text in (info.get("versions") or {}).items()}
    for key in _DIGESTS:
        given = info.get(key)
        digests = given if isinstance(given, Mapping) else {"": given} if given else {}
        what = key.removesuffix("_sha256").replace("_", " ")
        found |= {f"{what} {name}".strip(): str(digest)[:16] for name, digest in digests.items()}
    return found


def _flat(settings: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in settings.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def _text(value: Any) -> str:
    return "–" if value is None else value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
