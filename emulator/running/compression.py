"""What a run asks of the encoding of payloads, and who takes it."""

from emulator.config import Config
from emulator.errors import ConfigError
from emulator.forms.base import AdapterForm
from emulator.policy.base import Policy
from emulator.policy.catalog import import_path
from emulator.records import Compression, Encoding, EncodingKind


def compression_of(config: Config) -> Compression:
    """How payloads are encoded; what is not given is as :class:`Encoding` has it."""
    asked, plain = config.compression, Encoding()

    def encoding(kind: EncodingKind) -> Encoding:
        return Encoding(
            kind=kind,
            topk_fraction=asked.topk_fraction or plain.topk_fraction,
            bucket_size=asked.bucket_size or plain.bucket_size,
            rounding=asked.rounding or plain.rounding,
        )

    return Compression(
        upload=encoding(asked.upload), download=encoding(asked.download), error_feedback=asked.error_feedback
    )


def check_compression(config: Config, policy: Policy) -> None:
    """Raise ConfigError if ``policy`` does not send what could be encoded."""
    for key in ("upload", "download"):
        kind = getattr(config.compression, key)
        if kind != "none" and policy.protocol.exchanges_steps:
            raise ConfigError(
                f"compression.{key} encodes what devices train, once a round, and policy {import_path(type(policy))} "
                "cuts the model and exchanges activations at every step; leave it out, or choose another policy, got "
                f"{kind!r}"
            )


def check_feedback(config: Config, form: AdapterForm, policy: Policy) -> None:
    """Raise ConfigError if what a device has not sent in a round is of no use in the next."""
    if config.compression.error_feedback and form.begins_anew:
        raise ConfigError(
            "compression.error_feedback adds what an upload has lost to the next one, and the devices of policy "
            f"{import_path(type(policy))} train adapters that begin anew within a run; set it to false, or choose "
            "another policy, got true"
        )
