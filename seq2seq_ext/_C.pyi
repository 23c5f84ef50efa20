from numpy import float64, int64
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
