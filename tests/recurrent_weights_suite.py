"""Tests of one recurrent op with bfloat16 and int8 weights, for the test files to inherit."""

import importlib
from typing import Any, ClassVar

import pytest
import torch
from recurrent_cases import Case, Inputs, Kind, make_inputs
from recurrent_op_suite import SMALL, assert_all_equal, take_rows
from torch import Tensor
from weight_cases import DTYPES, rounded_linear

from seq2seq_ext import ops, reference

CASES = {
    "one_of_everything": Case(1, 1, 1, 1),
    "one_step": Case(1, 3, 5, 16, D=2),
    "ragged": Case(6, 8, 16, 37, D=2, lengths=[6, 3, 1, 5, 0, 2, 4, 2]),
    "no_bias": Case(5, 7, 9, 37, D=2, bias=False),
    "many_rows": Case(4, 17, 33, 130),
    "no_rows": Case(3, 0, 4, 5, D=2),
}
PROJECTED = Case(5, 8, 16, 37, D=2, lengths=[5, 3, 0, 5, 1, 2, 4, 2], P=11)
# How far one value may be rounded to the other side, of the largest value: where ours and the
# float64 reference lie on two sides of a tie.
STEP = {torch.bfloat16: 2.0**-8, torch.int8: 1 / 127}


@pytest.mark.cpu_only("packed weights are the CPU's")
class WeightsSuite:
    kind: ClassVar[Kind]

    def pack(self, inputs: Inputs, dtype: torch.dtype) -> Tensor:
        packs: Any = getattr(ops, f"{self.kind.name}_pack")
        packed: Tensor = packs(inputs.weights, has_biases=inputs.has_biases, dtype=dtype)
        assert packed.dtype == dtype
        return packed

    def run(self, inputs: Inputs, dtype: torch.dtype) -> tuple[Tensor, ...]:
        return self.kind.run(ops, inputs, packed=self.pack(inputs, dtype))

    def expected(
        self, inputs: Inputs, dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch
    ) -> tuple[Tensor, ...]:
        """The reference in float64 on factors rounded as the kernels round them."""
        module = importlib.import_module(f"seq2seq_ext.reference.{self.kind.name}")
        with monkeypatch.context() as patch:
            patch.setattr(module, "linear", rounded_linear(dtype))
            return self.kind.run(reference, inputs.map(Tensor.double))

    @pytest.mark.parametrize("dtype", DTYPES)
    @pytest.mark.parametrize("sizes", [*CASES.values(), PROJECTED], ids=[*CASES, "projected"])
    def test_equals_the_rounded_problem(
        self, sizes: Case, dtype: torch.dtype, weight_isa: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        if sizes.P and not self.kind.projects:
            pytest.skip("only LSTM projects")
        inputs = make_inputs(self.kind, sizes)
        found, exact = self.run(inputs, dtype), self.expected(inputs, dtype, monkeypatch)
        for a, b in zip(found, exact, strict=True):
            assert a.shape == b.shape
            if not b.numel():
                continue
            error = (a - b).abs()
            # A value rounded the other way moves a sum by a step times a weight.
            assert error.max() <= 2 * STEP[dtype] * sizes.H**-0.5
            assert error.median() <= 1e-5

    @pytest.mark.parametrize("dtype", DTYPES)
    def test_a_first_step_is_exact(
        self, dtype: torch.dtype, weight_isa: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Nothing computed is rounded yet: only float32's own error is left."""
        inputs = make_inputs(self.kind, Case(1, 13, 70, 50))
        found, exact = self.run(inputs, dtype), self.expected(inputs, dtype, monkeypatch)
        for a, b in zip(found, exact, strict=True):
            torch.testing.assert_close(a.double(), b, rtol=2e-6, atol=2e-6)

    @pytest.mark.parametrize("dtype", DTYPES)
    def test_a_row_alone_gives_the_same_bits(
        self, dtype: torch.dtype, weight_isa: str, threads: None
    ) -> None:
        inputs = make_inputs(self.kind, Case(5, 17, 24, 130, D=2, lengths=[5, 1, 4, 0] * 4 + [2]))
        packed = self.pack(inputs, dtype)
        torch.set_num_threads(1)
        expected = self.kind.run(ops, inputs, packed=packed)
        for count in (1, 2):
            torch.set_num_threads(count)
            assert_all_equal(self.kind.run(ops, inputs, packed=packed), expected)
            for rows in ([0], [3], [16], [5, 0, 9, 3, 4, 12, 7]):
                got = self.kind.run(ops, take_rows(inputs, rows), packed=packed)
                assert_all_equal(got, [t[:, rows] for t in expected])

    @pytest.mark.parametrize("dtype", DTYPES)
    def test_steps_equal_the_sequence(self, dtype: torch.dtype, weight_isa: str) -> None:
        inputs = make_inputs(self.kind, Case(4, 5, 9, 40))
        packed = self.pack(inputs, dtype)
        output, *finals = self.kind.run(ops, inputs, packed=packed)
        states = inputs.states
        for t in range(4):
            one = Inputs(inputs.input[t : t + 1], states, inputs.weights, None, True)
            step, *carried = self.kind.run(ops, one, packed=packed)
            states = tuple(carried)
            assert torch.equal(step[0], output[t])
        assert_all_equal(states, finals)

    @pytest.mark.parametrize("dtype", DTYPES)
    def test_a_nan_stays_in_its_row(self, dtype: torch.dtype, weight_isa: str) -> None:
        inputs = make_inputs(self.kind, Case(3, 5, 7, 20, D=2))
        expected = self.run(inputs, dtype)
        inputs.input[1, 2, 3] = float("nan")
        others = [0, 1, 3, 4]
        got = self.run(inputs, dtype)
        assert_all_equal([t[:, others] for t in got], [t[:, others] for t in expected])
        assert got[0][1, 2].isnan().any()

    @pytest.mark.parametrize("dtype", DTYPES)
    def test_opcheck(self, dtype: torch.dtype) -> None:
        inputs = make_inputs(self.kind, SMALL)
        namespace = torch.ops.seq2seq_ext
        pack = getattr(namespace, f"{self.kind.name}_pack").default
        torch.library.opcheck(pack, (inputs.weights, True, dtype))
        extras = tuple(self.kind.keywords.values())
        call = (inputs.input, inputs.lengths, *inputs.states, inputs.weights, True, *extras)
        packed = self.pack(inputs, dtype)
        op = getattr(namespace, self.kind.name).default
        torch.library.opcheck(op, (*call, packed, False))
        if dtype == torch.int8:
            with pytest.raises(ValueError, match=r"packed: expected Float or bfloat16 where grad"):
                op(*call, packed, True)
            return
        torch.library.opcheck(op, (*call, packed, True))
        output, *finals, saved = op(*call, packed, True)
        backward = getattr(namespace, f"{self.kind.name}_backward").default
        rest = (*call, output, saved, dtype, [True, True])
        torch.library.opcheck(backward, (output.cos(), *(f.cos() for f in finals), *rest))

    @pytest.mark.parametrize("dtype", DTYPES)
    def test_no_gradients(self, dtype: torch.dtype) -> None:
        inputs = make_inputs(self.kind, SMALL)
        packed = self.pack(inputs, dtype)
        inputs.input.requires_grad_()
        with pytest.raises(ValueError, match=r"packed: expected .* where gradients are wanted"):
            self.kind.run(ops, inputs, packed=packed)

    def test_a_wrong_storage_is_named(self) -> None:
        inputs = make_inputs(self.kind, SMALL)
        with pytest.raises(ValueError, match="dtype: expected Float, bfloat16 or int8"):
            self.pack(inputs, torch.float16)
        with pytest.raises(ValueError, match="dtype: expected Double"):
            self.pack(inputs.map(Tensor.double), torch.int8)
