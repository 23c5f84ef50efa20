from collections.abc import Sequence
from typing import Any

from numpy import float32, float64, int64, uint8
from numpy.typing import NDArray
from torch import Tensor

class TokenTrie:
    def __init__(self, sequences: Sequence[Sequence[int]]) -> None: ...

class PhraseSet:
    def __init__(self, phrases: Sequence[Sequence[int]]) -> None: ...

class SearchOptions:
    def __init__(self, **fields: Any) -> None: ...

class BeamSearch:
    def __init__(self, options: Sequence[SearchOptions]) -> None: ...
    @property
    def rows(self) -> int: ...
    @property
    def width(self) -> int: ...
    @property
    def largest_token(self) -> int: ...
    @property
    def done(self) -> bool: ...
    @property
    def has_rules(self) -> bool: ...
    @property
    def live_rows(self) -> list[bool]: ...
    def is_done(self, sentence: int) -> bool: ...
    def prefix(self, row: int) -> list[int]: ...
    def choose(
        self, logits: NDArray[Any]
    ) -> tuple[NDArray[float64], NDArray[int64], NDArray[float64]]: ...
    def advance(
        self,
        log_probs: NDArray[float64],
        tokens: NDArray[int64],
        perturbed: NDArray[float64] | None = None,
        attention: NDArray[float64] | None = None,
    ) -> tuple[NDArray[int64], NDArray[int64]]: ...
    def stop(self, sentence: int) -> None: ...
    def live(self, sentence: int) -> list[tuple[Any, ...]]: ...
    def ended(self, sentence: int) -> list[tuple[Any, ...]]: ...
    def result(self) -> tuple[NDArray[Any], ...]: ...

Linear = tuple[NDArray[uint8], int, int, NDArray[float32] | None]

class Decoder:
    def __init__(
        self,
        *,
        weight_type: str,
        cell: str,
        attention: str,
        input_feeding: bool,
        scale: float,
        embedding: NDArray[float32],
        layers: list[tuple[NDArray[uint8], int, int]],
        query: Linear | None,
        v: NDArray[float32] | None,
        combine: Linear,
        projection: Linear | None,
        output: Linear,
    ) -> None: ...
    @property
    def state_parts(self) -> int: ...
    def generate(
        self,
        search: BeamSearch,
        *,
        memory: NDArray[float32],
        keys: NDArray[float32] | None,
        lengths: NDArray[int64],
        state: NDArray[float32],
        threads: int,
    ) -> NDArray[float32] | None: ...
    def step(
        self,
        tokens: NDArray[int64],
        state: NDArray[float32],
        *,
        memory: NDArray[float32],
        keys: NDArray[float32] | None,
        lengths: NDArray[int64],
        threads: int,
    ) -> tuple[NDArray[float32], NDArray[float32], NDArray[float32] | None]: ...

class RecurrentInference:
    def __init__(
        self,
        cell: str,
        names: tuple[str, ...],
        weights: Sequence[Tensor],
        state: int,
        packed: Sequence[Tensor],
    ) -> None: ...
    def step(
        self, parameters: dict[str, Any], input: Any, h: Any, c: Any
    ) -> tuple[Tensor, ...] | None: ...
    def layers(
        self,
        parameters: dict[str, Any],
        input: Any,
        lengths: Any,
        h_0: Any,
        c_0: Any,
        batch_first: bool,
    ) -> tuple[Tensor, ...] | None: ...
