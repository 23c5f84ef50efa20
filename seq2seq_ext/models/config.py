"""What a Seq2Seq model is made of."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any

from seq2seq_ext.nn.check import MAX_LAYERS, MAX_SIZE

CELLS = ("lstm", "gru", "rnn")
ATTENTIONS = ("additive", "dot", "scaled_dot", "general", "none")


@dataclass(frozen=True, kw_only=True)
class Seq2SeqConfig:
    """Sizes and choices of a :class:`~seq2seq_ext.models.Seq2Seq`.

    Args:
        source_vocabulary_size: the source is token ids below this; None for features.
        source_feature_size: the source is float vectors of this size (speech); None for ids.
        target_vocabulary_size: V, special tokens included.
        embedding_size: of source and target embeddings.
        hidden_size: H, of each encoder direction and of the decoder.
        encoder_layers, decoder_layers: stacked layers.
        cell: ``"lstm"``, ``"gru"`` or ``"rnn"`` (tanh), in encoder and decoder.
        attention: ``"additive"`` (Bahdanau), ``"dot"``, ``"scaled_dot"``, ``"general"`` (Luong)
            or ``"none"``. For the two dots the encoder projects its memory from 2H to H.
        attention_size: A, of additive attention; None means ``hidden_size``.
        input_feeding: whether each decoder step also sees the last attentional vector.
        dropout: on embeddings, between layers and on the attentional vector, in training.
        tie_output: the output layer's weight is the target embedding; if the sizes differ,
            a projection stands between.
        pad_id, unk_id, bos_id, eos_id: the special tokens' ids.

    Raises:
        ValueError, TypeError: a wrong field, named in the message.

    Example:
        >>> config = Seq2SeqConfig(source_vocabulary_size=30, target_vocabulary_size=40)
        >>> Seq2SeqConfig.from_dict(config.to_dict()) == config
        True
    """

    source_vocabulary_size: int | None = None
    source_feature_size: int | None = None
    target_vocabulary_size: int
    embedding_size: int = 256
    hidden_size: int = 256
    encoder_layers: int = 1
    decoder_layers: int = 1
    cell: str = "lstm"
    attention: str = "additive"
    attention_size: int | None = None
    input_feeding: bool = True
    dropout: float = 0.0
    tie_output: bool = False
    pad_id: int = 0
    unk_id: int = 1
    bos_id: int = 2
    eos_id: int = 3

    def __post_init__(self) -> None:
        sources = (self.source_vocabulary_size, self.source_feature_size)
        if (sources[0] is None) == (sources[1] is None):
            raise _error(
                "source_vocabulary_size, source_feature_size", "exactly one of the two", sources
            )
        for name in ("target_vocabulary_size", "embedding_size", "hidden_size"):
            self._check_int(name, 1)
        for name in ("encoder_layers", "decoder_layers"):
            self._check_int(name, 1, MAX_LAYERS)
        for name in ("source_vocabulary_size", "source_feature_size", "attention_size"):
            if getattr(self, name) is not None:
                self._check_int(name, 1)
        for name in ("input_feeding", "tie_output"):
            if not isinstance(getattr(self, name), bool):
                raise _error(name, "True or False", getattr(self, name), TypeError)
        for name, choices in (("cell", CELLS), ("attention", ATTENTIONS)):
            if getattr(self, name) not in choices:
                raise _error(name, f"one of {choices}", getattr(self, name))
        if isinstance(self.dropout, bool) or not isinstance(self.dropout, int | float):
            raise _error("dropout", "a number in [0, 1)", self.dropout, TypeError)
        if not 0 <= self.dropout < 1:
            raise _error("dropout", "a number in [0, 1)", self.dropout)
        self._check_special_ids()

    def _check_int(self, name: str, low: int, high: int = MAX_SIZE) -> None:
        value = getattr(self, name)
        if isinstance(value, bool) or not isinstance(value, int):
            raise _error(name, "an int", value, TypeError)
        if not low <= value <= high:
            raise _error(name, f"at least {low} and at most {high}", value)

    def _check_special_ids(self) -> None:
        names = ("pad_id", "unk_id", "bos_id", "eos_id")
        for name in names:
            self._check_int(name, 0)
            for vocabulary in ("source_vocabulary_size", "target_vocabulary_size"):
                size = getattr(self, vocabulary)
                if size is not None and getattr(self, name) >= size:
                    raise _error(name, f"below {vocabulary} ({size})", getattr(self, name))
        if len({getattr(self, name) for name in names}) < len(names):
            ids = tuple(getattr(self, name) for name in names)
            raise _error(", ".join(names), "four different ids", ids)

    @property
    def memory_size(self) -> int:
        """M, the size of the vectors that attention mixes."""
        projected = self.attention in ("dot", "scaled_dot")
        return self.hidden_size if projected else 2 * self.hidden_size

    def to_dict(self) -> dict[str, Any]:
        """All fields, as JSON can hold them."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> "Seq2SeqConfig":
        """The config that :meth:`to_dict` wrote; an unknown key is a ValueError."""
        if not isinstance(values, Mapping):
            raise _error("values", "a mapping of field names", values, TypeError)
        known = [field.name for field in fields(cls)]
        if unknown := [key for key in values if key not in known]:
            raise _error("values", f"keys among {known}", unknown)
        if "target_vocabulary_size" not in values:
            raise _error("values", "the key 'target_vocabulary_size'", sorted(values))
        return cls(**values)


def _error(name: str, expected: str, got: object, kind: type[Exception] = ValueError) -> Exception:
    return kind(f"Seq2SeqConfig: {name}: expected {expected}, got {got!r}")
