"""What LSTM, GRU and RNN share: stacking, layouts and the checks of torch.nn.

Dims: L layers, D directions, B batch, T time, I input, H hidden, P output (H or proj_size).
"""

import numbers
from abc import abstractmethod
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import dropout
from torch.nn.utils.rnn import PackedSequence, pack_padded_sequence, pad_packed_sequence

from seq2seq_ext.nn import check
from seq2seq_ext.nn.inference_dtype import InferenceDtype
from seq2seq_ext.nn.packed_cache import forget_packed_weights, kept_inference, packed_weights

States = tuple[Tensor, ...]


class RecurrentLayer(nn.RNNBase):
    """Stacked recurrent layers on this package's ops.

    Parameters, their names, initialisation, state_dict and repr are RNNBase's. Not a subclass
    of nn.LSTM and its kin: torch.compile refuses these with a graph break.

    Attributes:
        inference_dtype: how the weights of a float32 layer are stored where no gradient is wanted:
            ``"float32"``, ``"bfloat16"`` or ``"int8"``, as in :class:`seq2seq_ext.Decoder`; on
            CUDA only ``"float32"``.
    """

    inference_dtype = InferenceDtype()

    def __init__(
        self,
        mode: str,
        input_size: int,
        hidden_size: int,
        num_layers: int = 1,
        bias: bool = True,
        batch_first: bool = False,
        dropout: float = 0.0,
        bidirectional: bool = False,
        proj_size: int = 0,
        device: Any = None,
        dtype: Any = None,
    ) -> None:
        name = type(self).__name__
        check.integer(name, "input_size", input_size)
        check.integer(name, "hidden_size", hidden_size)
        check.integer(name, "num_layers", num_layers, check.MAX_LAYERS)
        check.integer(name, "proj_size", proj_size)
        if not isinstance(dropout, (numbers.Number, str)):
            raise TypeError(f"{name}: dropout: expected a number, got {dropout!r}")
        if proj_size and mode != "LSTM":
            raise ValueError(f"{name}: proj_size: expected 0 (only LSTM projects), got {proj_size}")
        if not isinstance(bidirectional, (bool, int)):
            raise TypeError(f"{name}: bidirectional: expected a bool, got {bidirectional!r}")
        super().__init__(
            mode,
            input_size,
            hidden_size,
            num_layers,
            bias,
            batch_first,
            dropout,
            bidirectional,
            proj_size,
            device,
            dtype,
        )

    @abstractmethod
    def _layer(
        self,
        input: Tensor,
        states: Sequence[Tensor],
        weights: Sequence[Tensor],
        lengths: Tensor | None,
        packed: Tensor | None,
    ) -> tuple[Tensor, ...]:
        """One layer's op: output, then the final states."""

    @abstractmethod
    def _pack(self, weights: Sequence[Tensor], dtype: torch.dtype | None) -> Tensor:
        """One layer's weights as its kernel reads them, stored as ``dtype``."""

    def flatten_parameters(self) -> None:
        """Forgets the packed weights that inference keeps; they are packed anew when needed.

        Weights changed through ``.data`` need this call in eval mode; other writes don't.
        """
        forget_packed_weights(self)

    def train(self, mode: bool = True) -> "RecurrentLayer":
        forget_packed_weights(self)
        return super().train(mode)

    def _run(
        self, input: Tensor | PackedSequence, hx: States | None, lengths: Tensor | None
    ) -> tuple[Any, States]:
        """torch.nn's forward, with the states as a tuple."""
        if results := self._infer(input, hx, lengths):
            return results[0], tuple(results[1:])
        if isinstance(input, PackedSequence):
            if lengths is not None:
                raise ValueError(
                    f"{self._name}: lengths: expected None with a PackedSequence, which has its "
                    f"own, got {check.describe(lengths)}"
                )
            return self._run_packed_sequence(input, hx)
        check.strided(self._name, "input", input)
        if lengths is not None:
            check.tensor(self._name, "lengths", lengths)
        if input.dim() not in (2, 3):
            raise ValueError(
                f"{self._name}: input: expected 2 dimensions (unbatched) or 3, got {input.dim()}"
            )
        self._check_states_dims(hx, input.dim())
        if input.dim() == 2:
            return self._run_unbatched(input, hx, lengths)
        if self.batch_first:
            output, final = self._run_layers(input.transpose(0, 1), hx, lengths)
            return output.transpose(0, 1), final
        return self._run_layers(input, hx, lengths)

    def _infer(self, input: Any, hx: States | None, lengths: Any) -> Any:
        """Output and final states by the fast way; nothing where the ops must do it."""
        if self.dropout and self.training:
            return None
        kept = kept_inference(self, self.mode, self._flat_weights_names)
        if kept is None:
            return None
        h_0, c_0 = (*(hx or (None,)), None)[:2]
        return kept.layers(self._parameters, input, lengths, h_0, c_0, self.batch_first)

    def _run_unbatched(
        self, input: Tensor, hx: States | None, lengths: Tensor | None
    ) -> tuple[Tensor, States]:
        if lengths is not None:
            raise ValueError(
                f"{self._name}: lengths: expected None with an unbatched (2-D) input, got "
                f"{check.describe(lengths)}"
            )
        states = None if hx is None else tuple(s.unsqueeze(1) for s in hx)
        output, final = self._run_layers(input.unsqueeze(1), states, None)
        return output.squeeze(1), tuple(s.squeeze(1) for s in final)

    def _run_packed_sequence(
        self, input: PackedSequence, hx: States | None
    ) -> tuple[PackedSequence, States]:
        if input.data.dim() != 2:
            raise RuntimeError(
                f"{self._name}: input: expected a PackedSequence with data of 2 dimensions, got "
                f"{input.data.dim()}"
            )
        self._check_states_dims(hx, 3)
        to_sorted, to_given = input.sorted_indices, input.unsorted_indices
        if hx is not None and to_sorted is not None:
            self._check_states(hx, int(input.batch_sizes[0]), input.data)
            hx = tuple(s.index_select(1, to_sorted) for s in hx)
        padded, lengths = pad_packed_sequence(PackedSequence(input.data, input.batch_sizes))
        output, final = self._run_layers(padded, hx, lengths)
        data = pack_padded_sequence(output, lengths).data
        if to_given is not None:
            final = tuple(s.index_select(1, to_given) for s in final)
        return PackedSequence(data, input.batch_sizes, to_sorted, to_given), final

    def _run_layers(
        self, input: Tensor, hx: States | None, lengths: Tensor | None
    ) -> tuple[Tensor, States]:
        """input [T, B, I], states [L*D, B, P or H] -> output [T, B, D*P], final states."""
        self._check_input(input, lengths)
        batch, directions = input.size(1), 1 + bool(self.bidirectional)
        if hx is None:
            hx = tuple(input.new_zeros(shape) for shape in self._state_shapes(batch))
        else:
            self._check_states(hx, batch, input)
        weights = self._weights_by_layer(directions)
        packed = packed_weights(self, (input, *hx), weights, self._pack)
        finals = []
        for layer in range(self.num_layers):
            states = [s[layer * directions : (layer + 1) * directions] for s in hx]
            input, *final = self._layer(input, states, weights[layer], lengths, packed[layer])
            finals.append(final)
            if self.dropout and self.training and layer + 1 < self.num_layers:
                input = dropout(input, self.dropout)
        if self.num_layers == 1:
            return input, tuple(finals[0])
        return input, tuple(torch.cat(parts) for parts in zip(*finals, strict=True))

    def _weights_by_layer(self, directions: int) -> list[list[Tensor]]:
        by_direction = self.all_weights
        return [
            [w for direction in by_direction[i : i + directions] for w in direction]
            for i in range(0, len(by_direction), directions)
        ]

    @property
    def _name(self) -> str:
        return type(self).__name__

    def _state_shapes(self, batch: int) -> list[tuple[int, ...]]:
        slabs = self.num_layers * (1 + bool(self.bidirectional))
        hidden = (slabs, batch, self.proj_size or self.hidden_size)
        return [hidden, (slabs, batch, self.hidden_size)] if self.mode == "LSTM" else [hidden]

    def _state_names(self) -> tuple[str, ...]:
        return ("hx[0]", "hx[1]") if self.mode == "LSTM" else ("hx",)

    # The op checks shapes too; here the errors are those of torch.nn, of the same types.

    def _check_input(self, input: Tensor, lengths: Tensor | None) -> None:
        weight = getattr(self, self._all_weights[0][0])
        if input.dtype != weight.dtype and not torch.is_autocast_enabled("cpu"):
            raise ValueError(
                f"{self._name}: input: expected {weight.dtype} like the weights, got {input.dtype}"
            )
        check.device(self._name, "input", input, weight)
        if input.size(-1) != self.input_size:
            raise RuntimeError(
                f"{self._name}: input: expected input.size(-1) == input_size == "
                f"{self.input_size}, got {input.size(-1)}"
            )
        if lengths is None and input.size(0) == 0:
            raise RuntimeError(f"{self._name}: input: expected at least 1 time step, got 0")

    def _check_states_dims(self, hx: States | None, dims: int) -> None:
        for name, state in zip(self._state_names(), hx or (), strict=False):
            check.tensor(self._name, name, state)
            if state.dim() != dims:
                raise RuntimeError(
                    f"{self._name}: {name}: expected {dims} dimensions with "
                    f"{'batched' if dims == 3 else 'unbatched'} input, got {state.dim()}"
                )

    def _check_states(self, hx: States, batch: int, input: Tensor) -> None:
        for name, state, shape in zip(
            self._state_names(), hx, self._state_shapes(batch), strict=True
        ):
            check.state(self._name, name, state, shape, input)
