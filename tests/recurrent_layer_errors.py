"""Wrong arguments of one layer, for its suite to inherit: torch.nn's errors, made clear."""

from typing import Any

import pytest
import torch
from recurrent_pair_suite import H, I, PairSuite
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence

import seq2seq_ext


class LayerErrorSuite(PairSuite):
    @pytest.mark.parametrize(
        ("argument", "kwargs"),
        [
            ("input_size", {"input_size": 0}),
            ("input_size", {"input_size": -1}),
            ("input_size", {"input_size": 2.5}),
            ("hidden_size", {"hidden_size": 0}),
            ("hidden_size", {"hidden_size": "7"}),
            ("num_layers", {"num_layers": 0}),
            ("num_layers", {"num_layers": "2"}),
            ("num_layers", {"num_layers": 1.5}),
            ("bias", {"bias": 1}),
            ("batch_first", {"batch_first": "no"}),
            ("dropout", {"dropout": 1.5}),
            ("dropout", {"dropout": "0.5"}),
            ("dropout", {"dropout": True}),
            ("proj_size", {"proj_size": -1}),
            ("proj_size", {"proj_size": 7}),
            ("hidden_units", {"hidden_units": 3}),
        ],
    )
    def test_bad_constructor(self, argument: str, kwargs: dict[str, Any]) -> None:
        kwargs = {"input_size": I, "hidden_size": H, **kwargs}
        with pytest.raises(Exception) as theirs:
            getattr(nn, self.module_name())(**kwargs)
        with pytest.raises(theirs.type, match=argument):
            getattr(seq2seq_ext, self.module_name())(**kwargs)

    @pytest.mark.parametrize(
        ("argument", "input", "state"),
        [
            ("input", torch.randn(I), None),
            ("input", torch.randn(1, 2, 3, I), None),
            ("input", torch.randn(4, 3, I + 1), None),
            ("input", torch.randn(0, 3, I), None),
            ("input", torch.randn(4, 3, I).double(), None),
            ("input", torch.ones(4, 3, I, dtype=torch.int64), None),
            ("input", PackedSequence(torch.randn(5, I + 1), torch.tensor([3, 2])), None),
            ("input", PackedSequence(torch.randn(5, I, 1), torch.tensor([3, 2])), None),
            ("hx", torch.randn(4, 3, I), torch.randn(3, H)),
            ("hx", torch.randn(4, I), torch.randn(1, 1, H)),
            ("hx", torch.randn(4, 3, I), torch.randn(1, 2, H)),
            ("hx", torch.randn(4, 3, I), torch.randn(2, 3, H)),
            ("hx", torch.randn(4, 3, I), torch.randn(1, 3, H + 1)),
            ("hx", PackedSequence(torch.randn(5, I), torch.tensor([3, 2])), torch.randn(1, 2, H)),
        ],
    )
    def test_bad_forward(self, argument: str, input: Any, state: Tensor | None) -> None:
        theirs, ours = self.pair(I, H)
        hx = (state, state) if state is not None and self.kind.states == 2 else state
        with pytest.raises(Exception) as expected:
            theirs(input, hx)
        with pytest.raises(expected.type, match=argument):
            ours(input, hx)

    @pytest.mark.parametrize(
        ("argument", "error", "args", "kwargs"),
        [
            ("input", TypeError, ([1.0],), {}),
            ("input", TypeError, (None,), {}),
            ("hx", TypeError, (torch.randn(4, 3, I), 5), {}),
            ("hx", (TypeError, RuntimeError), (torch.randn(4, 3, I), torch.randn(1, 3)), {}),
            ("hx", RuntimeError, (torch.randn(4, 3, I), torch.randn(1, 3, H).double()), {}),
            ("lengths", ValueError, (torch.randn(4, 3, I),), {"lengths": torch.tensor([4, 4])}),
            ("lengths", ValueError, (torch.randn(4, 3, I),), {"lengths": torch.tensor([4, 5, 1])}),
            ("lengths", ValueError, (torch.randn(4, 3, I),), {"lengths": torch.tensor([4, -1, 1])}),
            ("lengths", TypeError, (torch.randn(4, 3, I),), {"lengths": torch.ones(3)}),
            ("lengths", TypeError, (torch.randn(4, 3, I),), {"lengths": [4, 3, 1]}),
            ("lengths", ValueError, (torch.randn(4, I),), {"lengths": torch.tensor([4])}),
            (
                "lengths",
                ValueError,
                (PackedSequence(torch.randn(5, I), torch.tensor([3, 2])),),
                {"lengths": torch.tensor([2, 2, 1])},
            ),
            ("input", RuntimeError, (torch.randn(4, 3, I, device="meta"),), {}),
        ],
    )
    def test_bad_call(
        self, argument: str, error: Any, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> None:
        _, ours = self.pair(I, H)
        if self.kind.states == 2 and len(args) == 2 and isinstance(args[1], Tensor):
            args = (args[0], (args[1], args[1]))
        with pytest.raises(error, match=argument):
            ours(*args, **kwargs)

    @pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
    @pytest.mark.cpu_only("CUDA takes halves")
    def test_other_dtypes_are_refused(self, dtype: torch.dtype) -> None:
        _, ours = self.pair(I, H, dtype=dtype)
        with pytest.raises(TypeError, match="float32 or float64"):
            ours(torch.randn(4, 3, I, dtype=dtype))
