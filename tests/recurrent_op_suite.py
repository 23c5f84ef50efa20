"""Tests of one recurrent op, for test_lstm.py, test_gru.py and test_rnn.py to inherit."""

from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from recurrent_cases import Case, Inputs, cases_of, check_case, make_inputs
from recurrent_gradient_suite import RAGGED, SMALL, GradientSuite, assert_all_equal
from torch import Tensor

from seq2seq_ext import ops, reference

SEEDS = st.integers(0, 2**32 - 1)
# The suite's tests run in several classes by design.
PROPERTY = settings(
    max_examples=20, deadline=None, suppress_health_check=[HealthCheck.differing_executors]
)


def generate_cases(metafunc: pytest.Metafunc) -> None:
    """For a test file to import as pytest_generate_tests: every case of its class's kind."""
    if "case" in metafunc.fixturenames:
        cases = cases_of(metafunc.cls.kind)
        metafunc.parametrize("case", list(cases.values()), ids=list(cases))


def take_rows(inputs: Inputs, rows: Any) -> Inputs:
    lengths = None if inputs.lengths is None else inputs.lengths[rows]
    states = tuple(s[:, rows] for s in inputs.states)
    return Inputs(inputs.input[:, rows], states, inputs.weights, lengths, inputs.has_biases)


class OpSuite(GradientSuite):
    # Exactness

    def test_as_exact_as_torch(self, isa: str, case: Case) -> None:
        check_case(self.kind, case)

    def test_float64_equals_the_reference(self, isa: str, case: Case) -> None:
        inputs = make_inputs(self.kind, case, torch.float64)
        ours, expected = self.kind.run(ops, inputs), self.kind.run(reference, inputs)
        for a, b in zip(ours, expected, strict=True):
            torch.testing.assert_close(a, b, rtol=1e-12, atol=1e-12)

    @pytest.mark.slow
    @pytest.mark.parametrize("H", [1, 5, 16, 37, 64, 100])
    @pytest.mark.parametrize("B", [1, 2, 3, 7, 8, 17])
    @pytest.mark.parametrize("T", [1, 2, 9])
    def test_sweep(self, isa: str, T: int, B: int, H: int) -> None:
        generator = torch.Generator(torch.get_default_device()).manual_seed(T * B * H)
        lengths = torch.randint(0, T + 1, (B,), generator=generator).tolist()
        for I in (1, 13):
            for D in (1, 2):
                check_case(self.kind, Case(T, B, I, H, D=D))
                check_case(self.kind, Case(T, B, I, H, D=D, bias=False, lengths=lengths))

    @pytest.mark.parametrize("magnitude", [0.0, 1e-40, 1e4])
    def test_extreme_values(self, isa: str, magnitude: float) -> None:
        inputs = make_inputs(self.kind, Case(3, 2, 4, 17))
        if self.kind.keywords.get("nonlinearity") == "relu":
            inputs.weights = [w * 1e-3 for w in inputs.weights]
        inputs.input = inputs.input * magnitude
        exact = self.kind.run(reference, inputs.map(Tensor.double))
        for a, b in zip(self.kind.run(ops, inputs), exact, strict=True):
            torch.testing.assert_close(a.double(), b, rtol=1e-5, atol=1e-5)

    def test_strided_inputs(self, isa: str) -> None:
        case = Case(4, 3, 6, 17, D=2, lengths=[4, 0, 2])
        dense = make_inputs(self.kind, case)
        expected = self.kind.run(ops, dense)
        apart = Inputs(
            dense.input.transpose(0, 1).contiguous().transpose(0, 1),
            tuple(torch.stack([s, s], dim=-1)[..., 0] for s in dense.states),
            [torch.stack([w, w], dim=-1)[..., 0] for w in dense.weights],
            torch.stack([dense.lengths, dense.lengths], dim=1)[:, 0],
            True,
        )
        assert not any(t.is_contiguous() for t in (apart.input, *apart.states, *apart.weights))
        assert_all_equal(self.kind.run(ops, apart), expected)
        features_apart = dense.input.permute(2, 0, 1).contiguous().permute(1, 2, 0)
        apart.input = features_apart
        assert_all_equal(self.kind.run(ops, apart), expected)

    def test_expanded_inputs(self, isa: str) -> None:
        case = Case(4, 3, 6, 17, D=2)
        inputs = make_inputs(self.kind, case)
        inputs.input = inputs.input[:1, :1].expand(4, 3, 6)
        inputs.states = tuple(s[:, :1].expand_as(s) for s in inputs.states)
        dense = inputs.map(lambda t: t.clone(memory_format=torch.contiguous_format))
        assert_all_equal(self.kind.run(ops, inputs), self.kind.run(ops, dense))

    # Tracing, packed weights

    def test_opcheck(self) -> None:
        inputs = make_inputs(self.kind, SMALL).leaves(torch.float64)
        extras = tuple(self.kind.keywords.values())
        call = (inputs.input, inputs.lengths, *inputs.states, inputs.weights, True, *extras)
        namespace = torch.ops.seq2seq_ext
        op = getattr(namespace, self.kind.name).default
        torch.library.opcheck(op, (*call, None, True))
        output, *finals, saved = (t.detach() for t in op(*call, None, True))
        grads = [torch.randn_like(t) for t in (output, *finals)]
        torch.library.opcheck(
            getattr(namespace, f"{self.kind.name}_backward").default,
            (*grads, *call, output, saved, None, [True, True]),
        )
        values = [w.detach() for w in inputs.weights]
        call = (inputs.input.detach(), inputs.lengths, *inputs.states, values, True, *extras)
        for wanted in ([True, False], [False, True], [False, False]):
            torch.library.opcheck(
                getattr(namespace, f"{self.kind.name}_backward").default,
                (*grads, *call, output, saved, None, wanted),
                test_utils=("test_schema", "test_faketensor"),
            )

    @pytest.mark.cpu_only("packed weights are the CPU's")
    def test_opcheck_pack(self) -> None:
        inputs = make_inputs(self.kind, SMALL)
        op = getattr(torch.ops.seq2seq_ext, f"{self.kind.name}_pack").default
        torch.library.opcheck(op, (inputs.weights, inputs.has_biases, None))

    @pytest.mark.cpu_only("packed weights are the CPU's")
    def test_packed_weights_give_the_same_bits(self, isa: str, case: Case) -> None:
        inputs = make_inputs(self.kind, case)
        pack = getattr(ops, f"{self.kind.name}_pack")
        packed = pack(inputs.weights, has_biases=inputs.has_biases)
        expected = self.kind.run(ops, inputs)
        assert_all_equal(self.kind.run(ops, inputs, packed=packed), expected)

    # Lengths

    def test_outputs_past_the_end_are_zero(self) -> None:
        inputs = make_inputs(self.kind, RAGGED)
        output = self.kind.run(ops, inputs)[0]
        for row, length in enumerate(RAGGED.lengths or ()):
            assert output[length:, row].eq(0).all()
            assert output[:length, row].ne(0).any() or length == 0

    def test_an_empty_row_keeps_its_state(self) -> None:
        inputs = make_inputs(self.kind, RAGGED)
        for final, initial in zip(self.kind.run(ops, inputs)[1:], inputs.states, strict=True):
            assert torch.equal(final[:, 2], initial[:, 2])

    def test_full_lengths_are_no_lengths(self, isa: str) -> None:
        inputs = make_inputs(self.kind, Case(5, 4, 3, 21, D=2))
        expected = self.kind.run(ops, inputs)
        inputs.lengths = torch.full((4,), 5)
        assert_all_equal(self.kind.run(ops, inputs), expected)

    @pytest.mark.parametrize("bits", [0x7FC00000, 0x7FFFFFFF, 0x7F800001, -1])
    def test_every_nan_stays_one(self, isa: str, bits: int) -> None:
        """Exponents are computed in the bits of a float."""
        inputs = make_inputs(self.kind, Case(3, 2, 4, 37))
        nan = torch.tensor(bits, dtype=torch.int32).view(torch.float32)
        inputs.input[1, 0] = nan
        output = self.kind.run(ops, inputs)[0]
        assert output[1:, 0].isnan().all()
        assert output[:, 1].isfinite().all()

    @pytest.mark.parametrize("poison", [float("nan"), float("inf")])
    def test_a_nan_stays_in_its_row(self, isa: str, poison: float) -> None:
        clean = make_inputs(self.kind, RAGGED).leaves(torch.float32)
        expected = self.kind.run(ops, clean)
        dirty = clean.leaves(torch.float32)
        with torch.no_grad():
            dirty.input[2, 0] = poison
            dirty.input[5, 0] = poison  # past row 0's end
        got = self.kind.run(ops, dirty)
        others = [1, 2, 3, 4]
        assert_all_equal([t[:, others] for t in got], [t[:, others] for t in expected])
        assert got[0][4:, 0].eq(0).all()

    def test_padding_is_never_read(self, isa: str) -> None:
        clean = make_inputs(self.kind, RAGGED).leaves(torch.float32)
        dirty = clean.leaves(torch.float32)
        with torch.no_grad():
            for row, length in enumerate(RAGGED.lengths or ()):
                dirty.input[length:, row] = float("nan")
        results = []
        for inputs in (clean, dirty):
            outputs = self.kind.run(ops, inputs)
            total = sum(o.sum() for o in outputs)
            results.append([*outputs, *torch.autograd.grad(total, inputs.tensors())])
        assert_all_equal(*results)

    @PROPERTY
    @given(seed=SEEDS, data=st.data())
    def test_permuted_rows(self, seed: int, data: st.DataObject) -> None:
        inputs = self._random(seed, data)
        order = data.draw(st.permutations(range(inputs.input.size(1))))
        got = self.kind.run(ops, take_rows(inputs, order))
        assert_all_equal(got, [t[:, order] for t in self.kind.run(ops, inputs)])

    @PROPERTY
    @given(seed=SEEDS, data=st.data(), extra=st.integers(1, 4))
    def test_appended_padding(self, seed: int, data: st.DataObject, extra: int) -> None:
        inputs = self._random(seed, data)
        expected = self.kind.run(ops, inputs)
        steps = inputs.input.size(0)
        inputs.input = torch.cat([inputs.input, torch.randn(extra, *inputs.input.shape[1:])])
        output, *finals = self.kind.run(ops, inputs)
        assert output[steps:].eq(0).all()
        assert_all_equal([output[:steps], *finals], expected)

    @PROPERTY
    @given(seed=SEEDS, data=st.data())
    def test_split_sequence(self, seed: int, data: st.DataObject) -> None:
        inputs = self._random(seed, data, directions=1)
        assert inputs.lengths is not None
        cut = data.draw(st.integers(0, inputs.input.size(0)))
        expected = self.kind.run(ops, inputs)
        first = Inputs(
            inputs.input[:cut], inputs.states, inputs.weights, inputs.lengths.clamp(max=cut), True
        )
        output_1, *carried = self.kind.run(ops, first)
        second = Inputs(
            inputs.input[cut:],
            tuple(carried),
            inputs.weights,
            (inputs.lengths - cut).clamp(min=0),
            True,
        )
        output_2, *finals = self.kind.run(ops, second)
        assert_all_equal([torch.cat([output_1, output_2]), *finals], expected)

    @PROPERTY
    @given(seed=SEEDS, data=st.data())
    def test_reverse_is_forward_on_reversed_rows(self, seed: int, data: st.DataObject) -> None:
        inputs = self._random(seed, data, directions=2)
        output, *finals = self.kind.run(ops, inputs)
        half = len(inputs.weights) // 2
        backward = Inputs(
            flip_rows(inputs.input, inputs.lengths),
            tuple(s[1:] for s in inputs.states),
            inputs.weights[half:],
            inputs.lengths,
            True,
        )
        flipped, *flipped_finals = self.kind.run(ops, backward)
        H = flipped.size(2)
        assert torch.equal(flip_rows(flipped, inputs.lengths), output[:, :, H:])
        assert_all_equal(flipped_finals, [f[1:] for f in finals])

    # Batch invariance

    def test_a_row_alone_gives_the_same_bits(self, isa: str, threads: None) -> None:
        inputs = make_inputs(self.kind, Case(5, 17, 24, 130, D=2, lengths=[5, 1, 4, 0] * 4 + [2]))
        torch.set_num_threads(1)
        expected = self.kind.run(ops, inputs)
        for count in (1, 2):
            torch.set_num_threads(count)
            assert_all_equal(self.kind.run(ops, inputs), expected)
            for rows in ([0], [3], [16], [0, 2], [5, 0, 9, 3, 4, 12, 7]):
                got = self.kind.run(ops, take_rows(inputs, rows))
                assert_all_equal(got, [t[:, rows] for t in expected])

    # Bad arguments

    @pytest.mark.parametrize(
        ("argument", "value", "error"),
        [
            ("input", torch.randn(6, 7), ValueError),
            ("input", torch.randn(6, 5, 8), ValueError),
            ("input", torch.randn(6, 5, 7).half(), TypeError),
            ("input", torch.ones(6, 5, 7, dtype=torch.int64), TypeError),
            ("input", [1.0], RuntimeError),
            ("h_0", torch.randn(2, 4, 37), ValueError),
            ("h_0", torch.randn(1, 5, 37), ValueError),
            ("h_0", torch.randn(2, 5, 36), ValueError),
            ("h_0", torch.randn(5, 37), ValueError),
            ("h_0", torch.randn(2, 5, 37).double(), TypeError),
            ("lengths", torch.tensor([4, 6, 0, 1]), ValueError),
            ("lengths", torch.tensor([4, 7, 0, 1, 3]), ValueError),
            ("lengths", torch.tensor([4, 6, -1, 1, 3]), ValueError),
            ("lengths", torch.tensor([[4, 6, 0, 1, 3]]), ValueError),
            ("lengths", torch.tensor([4, 6, 0, 1, 3], dtype=torch.int32), TypeError),
            ("lengths", torch.tensor([4.0, 6, 0, 1, 3]), TypeError),
            ("lengths", [4, 6, 0, 1, 3], RuntimeError),
            ("weights", [], ValueError),
            ("packed", torch.randn(2, 3), ValueError),
            pytest.param(
                *("packed", torch.randn(2, 3).double(), TypeError),
                marks=pytest.mark.cpu_only("packed weights are the CPU's"),
            ),
        ],
    )
    def test_bad_argument(self, argument: str, value: Any, error: type[Exception]) -> None:
        inputs = make_inputs(self.kind, RAGGED)
        with pytest.raises(error, match=rf"\b{argument}\b"):
            self._run_with(inputs, argument, value)

    @pytest.mark.parametrize(
        ("index", "change", "error"),
        [
            (0, lambda w: w[:-1], ValueError),
            (0, lambda w: w[:, :-1], ValueError),
            (1, lambda w: w[:-1], ValueError),
            (1, lambda w: w[0], ValueError),
            (2, lambda w: w[:-1], ValueError),
            (3, lambda w: w[None], ValueError),
            (4, lambda w: w.double(), TypeError),
            (5, lambda w: w[:, 1:], ValueError),
        ],
    )
    def test_bad_weight(self, index: int, change: Any, error: type[Exception]) -> None:
        inputs = make_inputs(self.kind, RAGGED)
        inputs.weights[index] = change(inputs.weights[index])
        with pytest.raises(error, match=r"\b(weights|input)\b"):
            self.kind.run(ops, inputs)

    def test_has_biases_must_fit_the_weights(self) -> None:
        inputs = make_inputs(self.kind, Case(2, 2, 3, 5))
        inputs.has_biases = False
        inputs.weights = inputs.weights[:3]
        with pytest.raises(ValueError, match="weights"):
            self.kind.run(ops, inputs)

    def _run_with(self, inputs: Inputs, argument: str, value: Any) -> None:
        keywords = {}
        if argument == "h_0":
            inputs.states = (value, *inputs.states[1:])
        elif argument == "packed":
            keywords["packed"] = value
        else:
            setattr(inputs, argument, value)
        self.kind.run(ops, inputs, **keywords)

    def _random(self, seed: int, data: st.DataObject, directions: int | None = None) -> Inputs:
        torch.manual_seed(seed)
        T, B = data.draw(st.integers(1, 7)), data.draw(st.integers(1, 6))
        lengths = data.draw(st.lists(st.integers(0, T), min_size=B, max_size=B))
        D = directions or data.draw(st.sampled_from([1, 2]))
        H, I = data.draw(st.integers(1, 40)), data.draw(st.integers(1, 20))
        return make_inputs(self.kind, Case(T, B, I, H, D=D, lengths=lengths))


def flip_rows(sequence: Tensor, lengths: Tensor | None) -> Tensor:
    """Each row reversed within its length; padding stays."""
    assert lengths is not None
    flipped = sequence.clone()
    for row, length in enumerate(lengths.tolist()):
        flipped[:length, row] = sequence[:length, row].flip(0)
    return flipped
