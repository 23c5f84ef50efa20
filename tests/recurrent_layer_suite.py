"""Tests of one layer against torch.nn's, for the test files to inherit."""

import copy
from typing import Any

import pytest
import torch
from recurrent_layer_errors import LayerErrorSuite
from recurrent_pair_suite import Calls, H, I, flatten, with_gradients
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence, pack_padded_sequence, pad_packed_sequence

import seq2seq_ext

OPTIONS: dict[str, dict[str, Any]] = {
    "plain": {},
    "stacked": {"num_layers": 3},
    "bidirectional": {"bidirectional": True},
    "everything": {"num_layers": 2, "bidirectional": True, "batch_first": True, "bias": False},
}
PROJECTED = {
    "projected": {"proj_size": 3, "num_layers": 2, "bidirectional": True},
    "projected_no_bias": {"proj_size": 1, "bias": False},
}


def generate_options(metafunc: pytest.Metafunc) -> None:
    """For pytest_generate_tests: every set of constructor options of the class's kind."""
    if "options" in metafunc.fixturenames:
        options = {**OPTIONS, **PROJECTED} if metafunc.cls.kind.projects else OPTIONS
        metafunc.parametrize("options", list(options.values()), ids=list(options))


class LayerSuite(LayerErrorSuite):
    def inputs(self, module: Any, T: int = 4, B: int = 3) -> tuple[Tensor, Any]:
        shape = (B, T, I) if module.batch_first else (T, B, I)
        slabs = module.num_layers * (1 + module.bidirectional)
        h = torch.randn(slabs, B, module.proj_size or H, dtype=torch.float64, requires_grad=True)
        c = torch.randn(slabs, B, H, dtype=torch.float64, requires_grad=True)
        x = torch.randn(shape, dtype=torch.float64, requires_grad=True)
        return x, (h, c) if self.kind.states == 2 else h

    def check_equal(self, pair: tuple[Any, Any], *args: Any) -> None:
        theirs, ours = pair
        expected, got = with_gradients(theirs, *args), with_gradients(ours, *args)
        for a, b in zip(got, expected, strict=True):
            torch.testing.assert_close(a, b, rtol=1e-10, atol=1e-10)

    def test_equals_torch(self, options: dict[str, Any]) -> None:
        pair = self.pair(I, H, dtype=torch.float64, **options)
        x, hx = self.inputs(pair[1])
        self.check_equal(pair, x)
        self.check_equal(pair, x, hx)

    def test_unbatched(self, options: dict[str, Any]) -> None:
        pair = self.pair(I, H, dtype=torch.float64, **options)
        x, hx = self.inputs(pair[1], B=1)
        row = x.squeeze(0 if pair[1].batch_first else 1)
        states = hx.squeeze(1) if isinstance(hx, Tensor) else tuple(s.squeeze(1) for s in hx)
        self.check_equal(pair, row)
        self.check_equal(pair, row, states)

    @pytest.mark.parametrize("lengths", [[6, 4, 4, 1], [4, 1, 6, 4], [3, 3, 3, 3]])
    def test_packed_sequence(self, options: dict[str, Any], lengths: list[int]) -> None:
        theirs, ours = self.pair(I, H, dtype=torch.float64, **options)
        x, hx = self.inputs(ours, T=6, B=4)
        packed = pack_padded_sequence(
            x, torch.tensor(lengths), batch_first=ours.batch_first, enforce_sorted=False
        )
        self.check_equal((theirs, ours), packed)
        self.check_equal((theirs, ours), packed, hx)
        expected, got = theirs(packed)[0], ours(packed)[0]
        for a, b in zip(got[1:], expected[1:], strict=True):
            assert torch.equal(a, b)
        in_order = PackedSequence(packed.data, packed.batch_sizes)
        self.check_equal((theirs, ours), in_order, hx)
        assert ours(in_order)[0].sorted_indices is None

    def test_lengths_equal_a_packed_sequence(self, options: dict[str, Any]) -> None:
        theirs, ours = self.pair(I, H, dtype=torch.float64, **options)
        x, hx = self.inputs(ours, T=6, B=4)
        lengths = torch.tensor([4, 1, 6, 4])
        got, final = ours(x, hx, lengths=lengths)
        packed = pack_padded_sequence(x, lengths, ours.batch_first, enforce_sorted=False)
        expected, expected_final = theirs(packed, hx)
        padded = pad_packed_sequence(expected, ours.batch_first)[0]
        torch.testing.assert_close(got, padded)
        torch.testing.assert_close(flatten(final), flatten(expected_final))

    def test_zero_lengths_keep_the_state(self, options: dict[str, Any]) -> None:
        _, ours = self.pair(I, H, dtype=torch.float64, **options)
        x, hx = self.inputs(ours)
        output, final = ours(x, hx, lengths=torch.tensor([0, 0, 0]))
        assert output.eq(0).all()
        assert all(map(torch.equal, flatten(final), flatten(hx)))

    def test_padding_reaches_no_second_gradient(self, options: dict[str, Any]) -> None:
        _, ours = self.pair(I, H, dtype=torch.float64, **options)
        x = self.inputs(ours)[0].detach()
        lengths = torch.tensor([4, 0, 2])

        def second(padding: float) -> tuple[Tensor, ...]:
            rows = x if ours.batch_first else x.transpose(0, 1)
            rows = rows.clone()
            rows[1], rows[2, 2:] = padding, padding
            leaf = (rows if ours.batch_first else rows.transpose(0, 1)).requires_grad_()
            output = ours(leaf, lengths=lengths)[0].square().sum()
            (first,) = torch.autograd.grad(output, [leaf], create_graph=True)
            return torch.autograd.grad(first.square().sum(), [leaf, *ours.parameters()])

        for dirty, clean in zip(second(float("nan")), second(0.0), strict=True):
            assert torch.equal(dirty, clean)

    def test_dropout_draws_torchs_masks(self) -> None:
        theirs, ours = self.pair(I, H, num_layers=3, dropout=0.5, dtype=torch.float64)
        x, hx = self.inputs(ours)
        results = []
        for module in (theirs, ours):
            torch.manual_seed(3)
            results.append(with_gradients(module, x, hx))
        torch.testing.assert_close(*results, rtol=1e-10, atol=1e-10)
        self.check_equal((theirs.eval(), ours.eval()), x, hx)

    def test_runs_on_our_op(self) -> None:
        _, ours = self.pair(I, H, num_layers=2, bidirectional=True)
        x = torch.randn(4, 3, I, requires_grad=True)
        with Calls() as calls:
            ours(x)[0].sum().backward()
        name = f"seq2seq_ext.{self.kind.name}"
        assert calls.names.count(name) == calls.names.count(f"{name}_backward") == 2
        foreign = ("aten.lstm", "aten.gru", "aten.rnn", "aten.mkldnn", "aten.mm", "aten.addmm")
        assert not [n for n in calls.names if n.startswith(foreign)]

    def test_reference_backend_runs_no_kernel(self) -> None:
        _, ours = self.pair(I, H)
        x = torch.randn(4, 3, I)
        with seq2seq_ext.backend("reference"), Calls() as calls:
            expected = ours(x)
        assert not [n for n in calls.names if n.startswith("seq2seq_ext")]
        torch.testing.assert_close(flatten(ours(x)), flatten(expected))

    @pytest.mark.not_emulated("torch.compile takes no dispatch mode")
    def test_compile_with_lengths(self) -> None:
        _, ours = self.pair(I, H, num_layers=2, bidirectional=True)
        compiled = torch.compile(ours, fullgraph=True, backend="aot_eager", dynamic=True)
        for T, B in ((4, 3), (6, 5)):
            x, lengths = torch.randn(T, B, I), torch.randint(0, T + 1, (B,))
            expected = flatten(ours(x, lengths=lengths))
            torch.testing.assert_close(flatten(compiled(x, lengths=lengths)), expected)

    @pytest.mark.cpu_only("weights are rounded as they are packed, for the CPU")
    def test_bfloat16_autocast_is_as_exact_as_torchs(self) -> None:
        theirs, ours = self.pair(40, 50, num_layers=2, bidirectional=True)
        x = torch.randn(6, 9, 40, requires_grad=True)
        exact = with_gradients(copy.deepcopy(theirs).double(), x.detach().double().requires_grad_())
        with torch.autocast("cpu", torch.bfloat16):
            found, torchs = with_gradients(ours, x), with_gradients(theirs, x)
            assert torch.equal(ours(x.bfloat16())[0], found[0])
            with torch.no_grad():
                assert torch.equal(ours(x)[0], found[0])
        assert not torch.equal(found[0], ours(x)[0])  # it did round
        for got, other, true in zip(found, torchs, exact, strict=True):
            assert got.dtype == torch.float32
            assert (got - true).norm() <= 1.5 * (other - true).norm() + 1e-6

    def test_repr_and_attributes(self, options: dict[str, Any]) -> None:
        theirs, ours = self.pair(I, H, **options)
        assert repr(ours) == repr(theirs)
        assert len(ours.all_weights) == len(theirs.all_weights)
        assert ours.all_weights[0][0] is ours.weight_ih_l0
        assert ours.flatten_parameters() is None
        assert {n: p.shape for n, p in ours.named_parameters()} == {
            n: p.shape for n, p in theirs.named_parameters()
        }

    def test_positional_constructor(self) -> None:
        middle = tuple(self.kind.keywords.values())
        args = (I, H, 2, *middle, False, True, 0.0, True)
        name = self.module_name()
        assert repr(getattr(seq2seq_ext, name)(*args)) == repr(getattr(nn, name)(*args))

    def test_a_replaced_parameter_is_used(self) -> None:
        theirs, ours = self.pair(I, H)
        for module in (theirs, ours):
            module.weight_ih_l0 = nn.Parameter(torch.ones_like(module.weight_ih_l0))
        x = torch.randn(4, 3, I)
        torch.testing.assert_close(flatten(ours(x)), flatten(theirs(x)))
