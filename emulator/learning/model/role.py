"""What a pre-trained model is loaded as: with a new head for classes, or as the language model that it is."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any


@dataclass(frozen=True, kw_only=True)
class Role:
    """What a model is loaded as, in the words of transformers and PEFT.

    Attributes:
        auto_class: the name of the class in transformers that loads it.
        peft_task: what PEFT calls its task.
        purpose: what it is for, in messages.
        has_new_head: whether what stands behind the base model may be new, and is then drawn from the seed.
        settings: what its configuration is told, whatever its config.json says.
        has_classes: whether each of its outputs is about a class that has a name.
    """

    auto_class: str
    peft_task: str
    purpose: str
    has_new_head: bool
    settings: Mapping[str, Any] = field(default_factory=dict)
    has_classes: bool = True


CLASSIFIER = Role(
    auto_class="AutoModelForSequenceClassification",
    peft_task="SEQ_CLS",
    purpose="sequence classification",
    has_new_head=True,
    settings={"problem_type": "single_label_classification"},
)
MULTI_LABEL_CLASSIFIER = replace(CLASSIFIER, settings={"problem_type": "multi_label_classification"})
REGRESSOR = replace(CLASSIFIER, settings={"problem_type": "regression"}, has_classes=False)
SEQ2SEQ_MODEL = Role(
    auto_class="AutoModelForSeq2SeqLM",
    peft_task="SEQ_2_SEQ_LM",
    purpose="sequence-to-sequence language modelling",
    has_new_head=False,
    has_classes=False,
)
LANGUAGE_MODEL = Role(
    auto_class="AutoModelForCausalLM",
    peft_task="CAUSAL_LM",
    purpose="causal language modelling",
    has_new_head=False,
    has_classes=False,
)
