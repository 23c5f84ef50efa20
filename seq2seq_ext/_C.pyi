from numpy import float32, float64, int64, uint8
from numpy.typing import NDArray

class BeamSearch:
    def __init__(
        self,
        batch_size: int,
        *,
        beam_size: int,
        n_best: int,
        eos_id: int,
        pad_id: int,
        max_length: int,
        min_length: int,
        length_penalty: str,
        alpha: float,
    ) -> None: ...
    @property
    def rows(self) -> int: ...
    @property
    def width(self) -> int: ...
    @property
    def done(self) -> bool: ...
    def advance(
        self, log_probs: NDArray[float64], tokens: NDArray[int64]
    ) -> tuple[NDArray[int64], NDArray[int64]]: ...
    def result(
        self,
    ) -> tuple[NDArray[int64], NDArray[int64], NDArray[float64], NDArray[float64]]: ...

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
        bos_id: int,
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
