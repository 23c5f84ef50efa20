"""How a model's texts become tokens, and its tokens a text."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

UNITS = ("characters", "words")
FEATURES = "features"
SOURCE_UNITS = (*UNITS, FEATURES)


@dataclass(frozen=True)
class Tokenization:
    """The units of source and target.

    Args:
        source, target: ``"characters"``, or ``"words"`` between white space. A source that is
            no text but float features (speech) has ``"features"``.
        joiner: stands between the tokens of a target text; None means a space for words and
            nothing for characters.

    Raises:
        ValueError, TypeError: a wrong field, named in the message.

    Example:
        >>> tokenization = Tokenization(source="characters", target="words")
        >>> tokenization.split_source("read"), tokenization.split_target("R IY D")
        (['r', 'e', 'a', 'd'], ['R', 'IY', 'D'])
        >>> tokenization.join_target(["R", "IY", "D"])
        'R IY D'
    """

    source: str = "characters"
    target: str = "characters"
    joiner: str | None = None

    def __post_init__(self) -> None:
        for name, units in (("source", SOURCE_UNITS), ("target", UNITS)):
            if getattr(self, name) not in units:
                raise ValueError(
                    f"Tokenization: {name}: expected one of {units}, got {getattr(self, name)!r}"
                )
        if self.joiner is not None and not isinstance(self.joiner, str):
            raise TypeError(f"Tokenization: joiner: expected a str or None, got {self.joiner!r}")

    def split_source(self, text: str) -> list[str]:
        if self.source == FEATURES:
            raise ValueError("Tokenization: text: expected none for a source of features")
        return _split(text, self.source)

    def split_target(self, text: str) -> list[str]:
        return _split(text, self.target)

    def join_target(self, tokens: Sequence[str]) -> str:
        default = " " if self.target == "words" else ""
        return (default if self.joiner is None else self.joiner).join(tokens)

    def to_dict(self) -> dict[str, Any]:
        """All fields, as JSON can hold them."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> "Tokenization":
        """What :meth:`to_dict` wrote.

        Raises:
            ValueError: an unknown key.
            TypeError: not a mapping.
        """
        if not isinstance(values, Mapping):
            raise TypeError(f"Tokenization: values: expected a mapping of fields, got {values!r}")
        known = asdict(cls())
        if unknown := [key for key in values if key not in known]:
            raise ValueError(
                f"Tokenization: values: expected keys among {list(known)}, got {unknown}"
            )
        return cls(**values)


def _split(text: str, unit: str) -> list[str]:
    return list(text) if unit == "characters" else text.split()
