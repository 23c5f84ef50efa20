"""Tests of one recurrent module against torch.nn's, for the test files to inherit."""

import copy
import io
import pickle
from typing import Any, ClassVar

import pytest
import torch
from recurrent_cases import Kind, assert_as_exact_as_torch
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence, pack_padded_sequence, pad_packed_sequence
from torch.testing._internal.common_modules import module_db
from torch.utils._python_dispatch import TorchDispatchMode

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
I, H = 5, 7


class Calls(TorchDispatchMode):
    """The names of all ops that run."""

    def __init__(self) -> None:
        super().__init__()
        self.names: list[str] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.names.append(str(func).rsplit(".", 1)[0])
        return func(*args, **(kwargs or {}))


def generate_options(metafunc: pytest.Metafunc) -> None:
    """For pytest_generate_tests: every set of constructor options of the class's kind."""
    if "options" in metafunc.fixturenames:
        options = {**OPTIONS, **PROJECTED} if metafunc.cls.kind.projects else OPTIONS
        metafunc.parametrize("options", list(options.values()), ids=list(options))
    if "sample" in metafunc.fixturenames:
        samples = samples_of(getattr(nn, metafunc.cls.module_name()))
        metafunc.parametrize("sample", samples, ids=range(len(samples)))


def samples_of(module: type[nn.Module]) -> list[tuple[Any, bool]]:
    """torch.nn's own sample inputs, each for training and for eval."""
    samples = []
    for info in module_db:
        if info.module_cls is not module:
            continue
        for training in (True, False):
            samples += [
                (sample, training)
                for sample in info.module_inputs_func(
                    info, device="cpu", dtype=torch.float64, requires_grad=True, training=training
                )
            ]
    return samples


def flatten(value: Any) -> list[Tensor]:
    if isinstance(value, PackedSequence):
        return [value.data]
    if isinstance(value, Tensor):
        return [value]
    return [t for v in value if v is not None for t in flatten(v)]


def with_gradients(module: nn.Module, *args: Any, **kwargs: Any) -> list[Tensor]:
    """Outputs, then gradients of the tensors among the arguments and of the parameters."""
    outputs = flatten(module(*args, **kwargs))
    leaves = [t for t in flatten(args) if t.requires_grad] + list(module.parameters())
    total = sum((o * torch.arange(o.numel()).view_as(o).cos()).sum() for o in outputs)
    return [*outputs, *torch.autograd.grad(total, leaves)]


class PairSuite:
    """What holds for layers and cells alike."""

    kind: ClassVar[Kind]

    @classmethod
    def module_name(cls) -> str:
        return cls.kind.module

    def pair(self, *args: Any, **kwargs: Any) -> tuple[Any, Any]:
        """torch.nn's module and ours, with equal weights."""
        name = self.module_name()
        theirs = getattr(nn, name)(*args, **kwargs, **self.kind.keywords)
        ours = getattr(seq2seq_ext, name)(*args, **kwargs, **self.kind.keywords)
        ours.load_state_dict(theirs.state_dict())
        return theirs, ours

    def test_torchs_sample_inputs(self, sample: tuple[Any, bool]) -> None:
        given, training = sample
        args, kwargs = given.constructor_input.args, given.constructor_input.kwargs
        theirs = getattr(nn, self.module_name())(*args, **kwargs).double()
        ours = getattr(seq2seq_ext, self.module_name())(*args, **kwargs).double()
        ours.load_state_dict(theirs.state_dict())
        forward = given.forward_input
        expected = with_gradients(theirs.train(training), *forward.args, **forward.kwargs)
        got = with_gradients(ours.train(training), *forward.args, **forward.kwargs)
        for a, b in zip(got, expected, strict=True):
            torch.testing.assert_close(a, b, rtol=1e-10, atol=1e-10)

    def test_same_initialisation(self) -> None:
        states = []
        for where in (nn, seq2seq_ext):
            torch.manual_seed(0)
            module = getattr(where, self.module_name())(I, H, **self.kind.keywords)
            states.append((module.state_dict(), torch.rand(1)))
        (theirs, after_theirs), (ours, after_ours) = states
        assert list(ours) == list(theirs)
        assert all(torch.equal(ours[name], theirs[name]) for name in theirs)
        assert torch.equal(after_ours, after_theirs)

    def test_state_dict_goes_both_ways(self) -> None:
        theirs, ours = self.pair(I, H)
        ours.reset_parameters()
        theirs.load_state_dict(ours.state_dict())
        assert all(torch.equal(a, b) for a, b in zip(theirs.parameters(), ours.parameters()))
        assert list(theirs.state_dict()) == list(ours.state_dict())

    def test_copies_and_pickles(self) -> None:
        _, ours = self.pair(I, H)
        ours.eval()
        x = torch.randn(4, I)
        with torch.no_grad():
            expected = flatten(ours(x))
            buffer = io.BytesIO()
            torch.save(ours, buffer)
            buffer.seek(0)
            for twin in (
                copy.deepcopy(ours),
                copy.copy(ours),
                pickle.loads(pickle.dumps(ours)),
                torch.load(buffer, weights_only=False),
            ):
                assert all(map(torch.equal, flatten(twin(x)), expected))

    def test_float32_is_as_exact_as_torch(self, isa: str) -> None:
        theirs, ours = self.pair(I, 37)
        x = torch.randn(8, I, requires_grad=True)
        plain, got = with_gradients(theirs, x), with_gradients(ours, x)
        exact = with_gradients(theirs.double(), x.double().detach().requires_grad_())
        assert_as_exact_as_torch(got, plain, exact)

    def test_compile_and_export(self) -> None:
        _, ours = self.pair(I, H)
        x = torch.randn(4, 3, I) if isinstance(ours, nn.RNNBase) else torch.randn(3, I)
        expected = with_gradients(ours, x)
        compiled = torch.compile(ours, fullgraph=True, backend="aot_eager")
        for a, b in zip(with_gradients(compiled, x), expected, strict=True):
            torch.testing.assert_close(a, b)
        exported = torch.export.export(ours, (x,)).module()
        assert all(map(torch.equal, flatten(exported(x)), flatten(ours(x))))

    def test_inference_mode_and_functional_call(self) -> None:
        theirs, ours = self.pair(I, H)
        x = torch.randn(4, I)
        with torch.inference_mode():
            torch.testing.assert_close(flatten(ours.eval()(x)), flatten(theirs(x)))
        doubled = {name: 2 * value for name, value in theirs.state_dict().items()}
        got = torch.func.functional_call(ours, doubled, (x,))
        expected = torch.func.functional_call(theirs, doubled, (x,))
        torch.testing.assert_close(flatten(got), flatten(expected))


class LayerSuite(PairSuite):
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

    def test_compile_with_lengths(self) -> None:
        _, ours = self.pair(I, H, num_layers=2, bidirectional=True)
        compiled = torch.compile(ours, fullgraph=True, backend="aot_eager", dynamic=True)
        for T, B in ((4, 3), (6, 5)):
            x, lengths = torch.randn(T, B, I), torch.randint(0, T + 1, (B,))
            expected = flatten(ours(x, lengths=lengths))
            torch.testing.assert_close(flatten(compiled(x, lengths=lengths)), expected)

    def test_autocast(self) -> None:
        _, ours = self.pair(I, H, num_layers=2)
        x = torch.randn(4, 3, I)
        expected = flatten(ours(x))
        with torch.autocast("cpu", torch.bfloat16):
            assert all(map(torch.equal, flatten(ours(x)), expected))
            assert ours(x.bfloat16())[0].dtype == torch.float32

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

    # Errors: torch.nn's types, naming the argument.

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
        with pytest.raises(Exception) as theirs:  # noqa: B017, PT011
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
        with pytest.raises(Exception) as expected:  # noqa: B017, PT011
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
            ("lengths", RuntimeError, (torch.randn(4, 3, I),), {"lengths": [4, 3, 1]}),
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
    def test_other_dtypes_are_refused(self, dtype: torch.dtype) -> None:
        _, ours = self.pair(I, H, dtype=dtype)
        with pytest.raises(TypeError, match="float32 or float64"):
            ours(torch.randn(4, 3, I, dtype=dtype))

