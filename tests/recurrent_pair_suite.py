"""What holds for layers and cells alike against torch.nn's, for the suites to inherit."""

import copy
import io
import pickle
from typing import Any, ClassVar

import pytest
import torch
from recurrent_cases import Kind, assert_as_exact_as_torch
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence
from torch.testing._internal.common_modules import module_db
from torch.utils._python_dispatch import TorchDispatchMode

import seq2seq_ext

I, H = 5, 7


class Calls(TorchDispatchMode):
    """The names of all ops that run."""

    def __init__(self) -> None:
        super().__init__()
        self.names: list[str] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.names.append(str(func).rsplit(".", 1)[0])
        return func(*args, **(kwargs or {}))


def generate_samples(metafunc: pytest.Metafunc) -> None:
    """For pytest_generate_tests: every one of torch.nn's sample inputs for the class's module."""
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
        assert all(
            torch.equal(a, b) for a, b in zip(theirs.parameters(), ours.parameters(), strict=True)
        )
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

    @pytest.mark.not_emulated("torch.compile takes no dispatch mode")
    def test_compile_and_export(self) -> None:
        _, ours = self.pair(I, H)
        x = torch.randn(4, 3, I) if isinstance(ours, nn.RNNBase) else torch.randn(3, I)
        expected = with_gradients(ours, x)
        compiled = torch.compile(ours, fullgraph=True, backend="aot_eager")
        for a, b in zip(with_gradients(compiled, x), expected, strict=True):
            torch.testing.assert_close(a, b)
        exported = torch.export.export(ours, (x,)).module()
        assert all(map(torch.equal, flatten(exported(x)), flatten(ours(x))))

    @pytest.mark.not_emulated("only parameters lie on CUDA there")
    def test_inference_mode_and_functional_call(self) -> None:
        theirs, ours = self.pair(I, H)
        x = torch.randn(4, I)
        with torch.inference_mode():
            torch.testing.assert_close(flatten(ours.eval()(x)), flatten(theirs(x)))
        doubled = {name: 2 * value for name, value in theirs.state_dict().items()}
        got = torch.func.functional_call(ours, doubled, (x,))
        expected = torch.func.functional_call(theirs, doubled, (x,))
        torch.testing.assert_close(flatten(got), flatten(expected))
