"""A module's fast way of inference: same bits as layer by layer, and only where it may."""

import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import torch
from recurrent_pair_suite import Calls, flatten
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode

import seq2seq_ext
from seq2seq_ext import _C, ops

I, H = 9, 40
MODES = {"LSTM": {}, "GRU": {}, "RNN_TANH": {}, "RNN_RELU": {"nonlinearity": "relu"}}
DTYPES = [None, torch.bfloat16, torch.int8]


def make(mode: str, suffix: str = "", **keywords: Any) -> Any:
    torch.manual_seed(0)
    kind = getattr(seq2seq_ext, mode.split("_")[0] + suffix)
    return kind(I, H, **MODES[mode], **keywords).requires_grad_(False)


def pack(module: Any, weights: list[Tensor], layers: int, dtype: torch.dtype | None) -> list[Any]:
    """What the ops take of a module: weights, their state, the packed ones."""
    op, each = getattr(ops, f"{module_op(module)}_pack"), len(weights) // layers
    parts = [weights[i : i + each] for i in range(0, len(weights), each)]
    packed = [op(part, has_biases=bool(module.bias), dtype=dtype) for part in parts]
    return [weights, torch.ops.seq2seq_ext.weights_state(weights), packed]


def cell_inference(
    cell: str, input: Any, states: Any, weights: Any, state: int, packed: Any
) -> list[Tensor]:
    h, c = (*states, None)[:2]
    names = tuple(map(str, range(len(weights))))
    fast = _C.RecurrentInference(cell, names, tuple(weights), state, [packed])
    return list(fast.step(dict(zip(names, weights, strict=True)), input, h, c) or [])


def layers_inference(
    cell: str,
    input: Any,
    states: Any,
    weights: Any,
    state: int,
    packed: Any,
    *,
    lengths: Any = None,
    batch_first: bool = False,
) -> list[Tensor]:
    h, c = (*states, None)[:2]
    names = tuple(map(str, range(len(weights))))
    fast = _C.RecurrentInference(cell, names, tuple(weights), state, packed)
    parameters = dict(zip(names, weights, strict=True))
    return list(fast.layers(parameters, input, lengths, h, c, batch_first) or [])


def module_op(module: Any) -> str:
    return type(module).__name__.removesuffix("Cell").lower()


def states_of(mode: str, *shape: int) -> list[Tensor]:
    return [torch.randn(shape) for _ in range(2 if mode == "LSTM" else 1)]


def general(module: Any, *args: Any, **keywords: Any) -> list[Tensor]:
    """The module's results layer by layer."""
    module.__dict__.pop("_packed_cache", None)
    return flatten(module(*args, **keywords))


LAYERS: dict[str, dict[str, Any]] = {
    "plain": {},
    "stacked": {"num_layers": 4, "bias": False},
    "bidirectional": {"num_layers": 3, "bidirectional": True, "batch_first": True},
}


@pytest.fixture
def two_threads() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


@pytest.mark.parametrize(
    ("mode", "dtype"),
    [*((mode, None) for mode in MODES), ("LSTM", torch.bfloat16), ("LSTM", torch.int8)],
    ids=str,
)
@pytest.mark.parametrize("keywords", LAYERS.values(), ids=LAYERS)
def test_layers_have_the_bits_of_their_ops(
    mode: str, dtype: torch.dtype | None, keywords: dict[str, Any], isa: str, two_threads: None
) -> None:
    module = make(mode, **keywords)
    module.inference_dtype = "float32" if dtype is None else str(dtype).removeprefix("torch.")
    slabs = module.num_layers * (1 + module.bidirectional)
    kept = pack(module, module._flat_weights, module.num_layers, dtype)
    for shape, ragged, zeros in (
        ((1, 1), False, False),
        ((5, 7), True, True),
        ((30, 32), True, False),
    ):
        x, batch = torch.randn(*shape, I), shape[0 if module.batch_first else 1]
        lengths = torch.randint(0, sum(shape) - batch + 1, (batch,)) if ragged else None
        hx = [None] * (1 + (mode == "LSTM")) if zeros else states_of(mode, slabs, batch, H)
        got = layers_inference(mode, x, hx, *kept, lengths=lengths, batch_first=module.batch_first)
        given = None if zeros else tuple(hx) if mode == "LSTM" else hx[0]
        expected = general(module, x, given, lengths=lengths)
        assert len(got) == len(expected)
        for a, b in zip(got, expected, strict=True):
            assert torch.equal(a, b) and a.stride() == b.stride()


def test_projected_states() -> None:
    module = make("LSTM", num_layers=3, bidirectional=True, proj_size=5)
    x, kept = torch.randn(6, 4, I), pack(module, module._flat_weights, 3, None)
    got = layers_inference("LSTM", x, (None, None), *kept, lengths=torch.tensor([6, 0, 3, 1]))
    expected = general(module, x, lengths=torch.tensor([6, 0, 3, 1]))
    assert all(map(torch.equal, got, expected)) and len(got) == 3


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("batch", [0, 1, 3, 200])
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("mode", MODES)
def test_cells_have_the_bits_of_their_op(
    mode: str, bias: bool, batch: int, dtype: torch.dtype | None
) -> None:
    cell = make(mode, "Cell", bias=bias)
    cell.inference_dtype = "float32" if dtype is None else str(dtype).removeprefix("torch.")
    x, states = torch.randn(I, batch).t(), states_of(mode, batch, H)
    weights, state, (packed,) = pack(cell, list(cell.parameters()), 1, dtype)
    for hx in (states, [None] * len(states)):
        given = None if hx[0] is None else tuple(hx) if mode == "LSTM" else hx[0]
        got = cell_inference(mode, x, hx, weights, state, packed)
        expected = general(cell, x, given)
        assert len(got) == len(expected) and all(map(torch.equal, got, expected))


@pytest.mark.parametrize("suffix", ["", "Cell"])
@pytest.mark.parametrize("mode", MODES)
def test_modules_run_on_it(mode: str, suffix: str) -> None:
    module = make(mode, suffix).requires_grad_(True)
    x = torch.randn(*([] if suffix else [3]), 2, I)
    name = f"seq2seq_ext.{module_op(module)}"
    with torch.no_grad():
        first = flatten(module(x))
        ran: set[str] = set()
        sys.setprofile(lambda frame, *_: ran.add(frame.f_code.co_name))
        second = flatten(module(x))
        sys.setprofile(None)
    assert not ran & {"run_cell", "_run_layers"} and "kept_inference" in ran
    assert all(map(torch.equal, first, second))
    with Calls() as calls:
        assert all(t.requires_grad for t in flatten(module(x)))
    assert all(t.requires_grad for t in flatten(module(x)))
    with torch.autocast("cpu", dtype=torch.bfloat16), torch.no_grad(), Calls() as rounded:
        module(x)
    assert name in calls.names and name in rounded.names


X, HX = torch.randn(3, I), torch.randn(3, H)


@pytest.mark.parametrize(
    "change",
    [
        {"cell": "GRU"},
        {"cell": "lstm"},
        {"input": X.double()},
        {"input": X[None]},
        {"input": X[:, 1:]},
        {"input": X[:2]},
        {"input": X.to_sparse()},
        {"input": torch.randn(3, I, requires_grad=True)},
        {"input": torch.randn(3, I, device="meta")},
        {"input": X.to(torch.complex64).conj()},
        {"input": 5},
        {"states": (HX, None)},
        {"states": (HX, HX[:, 1:])},
        {"states": (HX.double(), HX)},
        {"states": (HX, 5)},
        {"weights": []},
        {"weights": slice(0, 3)},
        {"weights": slice(0, 2)},
        {"state": 0},
        {"packed": torch.zeros(1, 7)},
        {"packed": torch.zeros(0)},
        {"packed": torch.zeros(1, 1, dtype=torch.int64)},
    ],
    ids=lambda change: f"{change.keys()}"[12:-3],
)
def test_answers_nothing_to(change: dict[str, Any]) -> None:
    cell = make("LSTM", "Cell")
    weights, state, (packed,) = pack(cell, list(cell.parameters()), 1, None)
    if isinstance(change.get("weights"), slice):
        some = weights[change["weights"]]
        change = {"weights": some, "state": torch.ops.seq2seq_ext.weights_state(some)}
        change["packed"] = torch.zeros(1, 7)
    arguments = {"cell": "LSTM", "input": X, "states": (HX, HX), "weights": weights}
    arguments |= {"state": state, "packed": packed}
    assert cell_inference(**arguments) != []
    assert cell_inference(**{**arguments, **change}) == []


@pytest.mark.parametrize(
    "lengths", [torch.tensor([4]), torch.tensor([5, 1]), torch.tensor([-1, 1]), torch.ones(2), [4]]
)
def test_lengths_that_it_leaves_to_the_layer(lengths: Any) -> None:
    module = make("GRU")
    kept = pack(module, module._flat_weights, 1, None)
    x = torch.randn(4, 2, I)
    assert layers_inference("GRU", x, (None,), *kept, lengths=torch.tensor([4, 0]))
    assert layers_inference("GRU", x, (None,), *kept, lengths=lengths) == []


def test_traces_show_the_layer_s_op() -> None:
    module, x = make("GRU"), torch.randn(4, 2, I)
    module(x)
    with FakeTensorMode(allow_non_fake_inputs=True) as mode:
        for context in (torch.no_grad(), torch.inference_mode()):
            with context:
                assert module(mode.from_tensor(x))[0].shape == (4, 2, H)


def test_a_changed_module_is_not_answered_for() -> None:
    cell, x, h = make("RNN_TANH", "Cell"), torch.randn(2, I), torch.randn(2, H)
    assert not torch.equal(cell(x, h), cell(2 * x, h))
    cell.nonlinearity = "relu"
    other = make("RNN_RELU", "Cell")
    assert torch.equal(cell(x, h), other(x, h)) and torch.equal(cell(x, h), other(x, h))
    cell.weight_hh = torch.nn.Parameter(torch.zeros(H, H), requires_grad=False)
    assert torch.equal(cell(x, h), cell(x, torch.zeros(2, H)))
    with torch.no_grad():
        cell.weight_hh.fill_(1)
    assert not torch.equal(cell(x, h), cell(x, torch.zeros(2, H)))


class Counted(TorchDispatchMode):
    """How many of our ops ran."""

    count = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.count += func.namespace == "seq2seq_ext"
        return func(*args, **(kwargs or {}))


def test_whoever_watches_sees_the_layer_s_op() -> None:
    module, x = make("LSTM"), torch.randn(4, 2, I)
    module(x)
    module(x)
    with Counted() as mode:
        module(x)
    assert mode.count
    with torch.profiler.profile() as profile:
        module(x)
    assert any(event.key == "seq2seq_ext::lstm" for event in profile.key_averages())


def test_subclasses_go_the_general_way() -> None:
    class Named(Tensor):
        pass

    cell, x = make("GRU", "Cell"), torch.randn(2, I)
    expected = cell(x)
    found = cell(x.as_subclass(Named))
    assert isinstance(found, Named) and torch.equal(found, expected)


def test_threads_run_side_by_side() -> None:
    """The GIL is free while a module runs."""
    module, x = make("LSTM", num_layers=2), torch.randn(400, 64, I)
    expected = module(x)[0]
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda _: module(x)[0], range(8)))
    assert all(torch.equal(each, expected) for each in found)
