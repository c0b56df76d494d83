"""Loads the tokenizer of a model, which alone decides what rows are padded with."""

from typing import Any

from transformers import AutoTokenizer

from emulator.errors import DataError
from emulator.learning.model.loading import reason, silenced_libraries
from emulator.learning.model.places import Place
from emulator.shapes.model_folder import check_tokenizer_files


def load_tokenizer(place: Place) -> Any:
    """The tokenizer that belongs to the model, padding on the right; it has a padding token.

    Raises:
        DataError: the model comes without one.
    """
    train = place.name
    check_tokenizer_files(place.folder, train)
    try:
        with silenced_libraries():
            tokenizer = AutoTokenizer.from_pretrained(str(place.folder), **place.source, trust_remote_code=False)
    except Exception as error:  # the parser of tokenizer.json raises nothing more specific
        raise DataError(
            f"model.train: {train!r} has no tokenizer that transformers can load: {reason(error)}; save "
            "one beside the weights with tokenizer.save_pretrained"
        ) from error
    if len(tokenizer) <= len(tokenizer.all_special_ids):  # what transformers makes up where there are no files for one
        raise DataError(f"model.train: {train!r} has no tokenizer; save one beside the weights with save_pretrained")
    tokenizer.padding_side = "right"
    if tokenizer.pad_token is None:
        if tokenizer.eos_token is None:
            raise DataError(
                f"model.train: the tokenizer of {train!r} has neither a padding nor an end-of-sequence token; set its "
                "pad_token and save it again with save_pretrained"
            )
        tokenizer.pad_token = tokenizer.eos_token
    return tokenizer
