"""Tests of a recurrent op's gradients."""

from dataclasses import replace
from typing import Any, ClassVar

import pytest
import torch
from recurrent_cases import Case, Inputs, Kind, make_inputs, run_with_gradients
from torch import Tensor
from torch.autograd import gradcheck, gradgradcheck

from seq2seq_ext import ops, reference

SMALL = Case(2, 2, 2, 3, D=2, lengths=[0, 2])
RAGGED = Case(6, 5, 7, 37, D=2, lengths=[4, 6, 0, 1, 3])
PROJECTED = Case(5, 8, 16, 37, D=2, lengths=[5, 3, 0, 5, 1, 2, 4, 2], P=11)


def assert_all_equal(got: Any, expected: Any) -> None:
    for a, b in zip(got, expected, strict=True):
        assert torch.equal(a, b)


class GradientSuite:
    kind: ClassVar[Kind]

    @pytest.mark.parametrize("bias", [True, False])
    def test_gradcheck(self, bias: bool) -> None:
        case = Case(2, 3, 2, 3, D=2, bias=bias, lengths=[2, 0, 1], P=2 * self.kind.projects)
        inputs = make_inputs(self.kind, case).leaves(torch.float64)
        n = 1 + self.kind.states

        def function(*tensors: Tensor) -> tuple[Tensor, ...]:
            parts = Inputs(tensors[0], tensors[1:n], list(tensors[n:]), inputs.lengths, bias)
            return self.kind.run(ops, parts)

        assert gradcheck(function, inputs.tensors())
        assert gradgradcheck(function, inputs.tensors(), fast_mode=True)

    def test_what_is_not_wanted_changes_nothing(self) -> None:
        """Frozen weights, or an input that is data: the other gradients have the same bits."""
        inputs = make_inputs(self.kind, RAGGED).leaves(torch.float32)
        all_of_them = self._squares(inputs, inputs.tensors())
        weights = 1 + self.kind.states
        data = Inputs(inputs.input.detach(), inputs.states, inputs.weights, inputs.lengths, True)
        assert_all_equal(self._squares(data, data.tensors()[1:]), all_of_them[1:])
        frozen = [w.detach() for w in inputs.weights]
        inputs = Inputs(inputs.input, inputs.states, frozen, inputs.lengths, True)
        assert_all_equal(self._squares(inputs, inputs.tensors()[:weights]), all_of_them[:weights])

    def test_second_gradients_of_what_was_wanted(self) -> None:
        inputs = make_inputs(self.kind, SMALL, torch.float64).leaves(torch.float64)
        frozen = [w.detach() for w in inputs.weights]
        leaves = [inputs.input, *inputs.states]
        found = []
        for where in (ops, reference):
            call = Inputs(inputs.input, inputs.states, frozen, inputs.lengths, True)
            total = sum(o.square().sum() for o in self.kind.run(where, call))
            first = torch.autograd.grad(total, leaves, create_graph=True)
            found.append(torch.autograd.grad(sum(g.square().sum() for g in first), leaves))
        torch.testing.assert_close(*found)

    def _squares(self, inputs: Inputs, wanted: list[Tensor]) -> tuple[Tensor, ...]:
        total = sum(o.square().sum() for o in self.kind.run(ops, inputs))
        return torch.autograd.grad(total, wanted)

    def test_gradient_of_an_output_slice(self) -> None:
        inputs = make_inputs(self.kind, RAGGED)
        got = inputs.leaves(torch.float64)
        self.kind.run(ops, got)[0][1:4, ::2, 3].sum().backward()
        expected = inputs.leaves(torch.float64)
        self.kind.run(reference, expected)[0][1:4, ::2, 3].sum().backward()
        torch.testing.assert_close(got.input.grad, expected.input.grad)

    @pytest.mark.parametrize("sizes", [RAGGED, PROJECTED], ids=["ragged", "projected"])
    def test_bfloat16_autocast_is_as_exact_as_torchs(self, sizes: Case, weight_isa: str) -> None:
        """The reference's products are torch's; gradients of relu jump where a sign changes."""
        if sizes.P and not self.kind.projects:
            pytest.skip("only LSTM projects")
        inputs = make_inputs(self.kind, sizes).leaves(torch.float32)
        exact = run_with_gradients(self.kind, reference, inputs.leaves(torch.float64))
        plain = run_with_gradients(self.kind, ops, inputs)
        with torch.autocast("cpu", torch.bfloat16):
            ours, theirs = (run_with_gradients(self.kind, m, inputs) for m in (ops, reference))
            double = self.kind.run(ops, inputs.map(Tensor.double))
        assert all(t.dtype == torch.float64 for t in double)
        smooth = self.kind.keywords.get("nonlinearity") != "relu"
        count = len(ours) if smooth else 1 + self.kind.states
        for got, other, true, full in list(zip(ours, theirs, exact, plain, strict=True))[:count]:
            assert got.dtype == torch.float32
            assert (got - true).norm() <= 1.5 * (other - true).norm() + 1e-6
            assert not torch.equal(got, full)  # it did round

    @pytest.mark.cpu_only("weights are rounded as they are packed, for the CPU")
    def test_autocast_rounds_inputs_too(self) -> None:
        inputs = make_inputs(self.kind, RAGGED)
        inputs.input = inputs.input.bfloat16().float()
        narrow = replace(inputs, input=inputs.input.bfloat16())
        with torch.autocast("cpu", torch.bfloat16):
            assert_all_equal(self.kind.run(ops, narrow), self.kind.run(ops, inputs))

    @pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
    def test_gradients_do_not_depend_on_threads(
        self, isa: str, dtype: torch.dtype, threads: None
    ) -> None:
        inputs = make_inputs(self.kind, Case(7, 8, 40, 130, D=2)).leaves(torch.float32)
        results = []
        for count in (1, 2, 3):
            torch.set_num_threads(count)
            with torch.autocast("cpu", dtype, enabled=dtype != torch.float32):
                outputs = self.kind.run(ops, inputs)
            total = sum(o.square().sum() for o in outputs)
            results.append(torch.autograd.grad(total, inputs.tensors()))
        for other in results[1:]:
            assert_all_equal(other, results[0])
