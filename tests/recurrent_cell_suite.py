"""Tests of one cell module against torch.nn's, for the test files to inherit."""

from typing import Any

import pytest
import torch
from recurrent_pair_suite import Calls, H, I, PairSuite, flatten, with_gradients
from torch import Tensor

import seq2seq_ext


class CellSuite(PairSuite):
    @classmethod
    def module_name(cls) -> str:
        return f"{cls.kind.module}Cell"

    def state(self, *shape: int) -> Any:
        states = [torch.randn(shape, dtype=torch.float64, requires_grad=True) for _ in range(2)]
        return tuple(states) if self.kind.states == 2 else states[0]

    @pytest.mark.parametrize("bias", [True, False])
    @pytest.mark.parametrize("batch", [(), (0,), (1,), (3,)])
    def test_equals_torch(self, bias: bool, batch: tuple[int, ...]) -> None:
        theirs, ours = self.pair(I, H, bias=bias, dtype=torch.float64)
        x = torch.randn(*batch, I, dtype=torch.float64, requires_grad=True)
        for args in ((x,), (x, self.state(*batch, H))):
            expected, got = with_gradients(theirs, *args), with_gradients(ours, *args)
            torch.testing.assert_close(got, expected, rtol=1e-10, atol=1e-10)
        assert repr(ours) == repr(theirs)

    def test_runs_on_our_op(self) -> None:
        _, ours = self.pair(I, H)
        with Calls() as calls:
            ours(torch.randn(3, I))
        assert f"seq2seq_ext.{self.kind.name}" in calls.names
        assert not [
            n for n in calls.names if "cell" in n or n.startswith(("aten.mm", "aten.addmm"))
        ]

    @pytest.mark.cpu_only("a step on CUDA is one sum over input and state, see test_cuda_recurrent")
    def test_steps_equal_the_layer(self) -> None:
        _, cell = self.pair(I, H)
        layer = getattr(seq2seq_ext, self.kind.module)(I, H, **self.kind.keywords)
        names = {f"{name}_l0": value for name, value in cell.state_dict().items()}
        layer.load_state_dict(names)
        x = torch.randn(5, 3, I)
        expected, _ = layer(x)
        state = None
        for t in range(5):
            state = cell(x[t], state)
            assert torch.equal(flatten(state)[0], expected[t])

    @pytest.mark.parametrize(
        ("argument", "input", "state"),
        [
            ("input", torch.randn(2, 3, I), None),
            ("input", torch.tensor(1.0), None),
            ("input", torch.randn(3, I + 1), None),
            ("input", torch.randn(3, I).double(), None),
            ("hx", torch.randn(3, I), torch.randn(1, 3, H)),
            ("hx", torch.randn(3, I), torch.randn(2, H)),
            ("hx", torch.randn(3, I), torch.randn(3, H + 1)),
            ("hx", torch.randn(3, I), torch.randn(3, H).double()),
        ],
    )
    def test_bad_forward(self, argument: str, input: Tensor, state: Tensor | None) -> None:
        theirs, ours = self.pair(I, H)
        hx = (state, state) if state is not None and self.kind.states == 2 else state
        with pytest.raises(Exception) as expected:
            theirs(input, hx)
        with pytest.raises(expected.type, match=argument):
            ours(input, hx)

    @pytest.mark.parametrize(("argument", "args"), [("input", (5,)), ("hx", (torch.ones(3, I), 5))])
    def test_bad_call(self, argument: str, args: tuple[Any, ...]) -> None:
        _, ours = self.pair(I, H)
        with pytest.raises(TypeError, match=argument):
            ours(*args)
