"""Fixtures and options that all tests share."""

import signal
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
import torch
from cuda_device import needs_cuda
from emulated_cuda import emulated_cuda

import seq2seq_ext  # noqa: F401  (loads the ops)
from seq2seq_ext.decoding.device_search import DeviceBeamSearch

# Drivers of other packages, imported only where those are installed.
collect_ignore_glob = ["compat/peer_*"]

# A shell's background job starts with Ctrl-C ignored, and so would the processes it starts:
# tests of interruption would then run without end.
if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

ISAS = torch.ops.seq2seq_ext.available_isas()


# The others differ from avx512 only in the kernels of reduced weights.
FULL_ISAS = [isa for isa in ISAS if "_" not in isa]


@contextmanager
def isa_in_force(name: str) -> Iterator[str]:
    before = torch.ops.seq2seq_ext.isa()
    torch.ops.seq2seq_ext.set_isa(name)
    yield name
    torch.ops.seq2seq_ext.set_isa(before)


@pytest.fixture(params=FULL_ISAS)
def isa(request: pytest.FixtureRequest) -> Iterator[str]:
    """Every instruction set of this CPU in turn; the one in force comes back afterwards."""
    with isa_in_force(request.param) as name:
        yield name


@pytest.fixture(params=ISAS)
def weight_isa(request: pytest.FixtureRequest) -> Iterator[str]:
    """The same with those that only kernels of bfloat16 and int8 weights tell apart."""
    with isa_in_force(request.param) as name:
        yield name


# Suites whose tensors lie where --device says; every other test is the CPU's.
DEVICE_SUITES = {
    "test_attention",
    "test_attention_modules",
    "test_attention_properties",
    "test_attentional_decoder",
    "test_beam_search",
    "test_combination",
    "test_greedy_search",
    "test_gru",
    "test_linear",
    "test_linear_cross_entropy",
    "test_lstm",
    "test_module_inputs",
    "test_peer_bugs",
    "test_rnn",
    "test_sampling",
    "test_search_brute_force",
    "test_search_options",
    "test_seq2seq",
    "test_topk",
    "test_tracing",
}
FIXTURES = {"threads": "threads are the CPU's", "weight_isa": "packed weights are the CPU's"}


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--device",
        choices=("cpu", "cuda", "emulated"),
        default="cpu",
        help="where ops, models and searches have their tensors; emulated: on the CPU, with the "
        "kernels of CUDA",
    )


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """With a device other than the CPU: its suites, once, not for each instruction set."""
    device = config.getoption("--device")
    if device == "cpu":
        return
    marks = ["cpu_only"] + ["not_emulated"] * (device == "emulated")
    kept, left = [], []
    for item in items:
        callspec = getattr(item, "callspec", None)
        isa = callspec and callspec.params.get("isa")
        belongs = item.path.stem in DEVICE_SUITES and isa in (None, FULL_ISAS[-1])
        (kept if belongs else left).append(item)
        reasons = [r for name, r in FIXTURES.items() if name in getattr(item, "fixturenames", ())]
        reasons += [mark.args[0] for name in marks for mark in item.iter_markers(name)]
        for reason in reasons:
            item.add_marker(pytest.mark.skip(reason=reason))
    config.hook.pytest_deselected(items=left)
    items[:] = kept


@pytest.fixture(autouse=True)
def place(request: pytest.FixtureRequest, seed: None) -> Iterator[None]:
    """Tensors that a test makes without a device go where --device says."""
    name = request.config.getoption("--device")
    if name == "cpu":
        yield
    elif name == "cuda":
        exact = torch.backends.cudnn.flags(enabled=True, allow_tf32=False)
        with torch.device("cuda"), exact:
            yield
    else:
        with emulated_cuda(), pytest.MonkeyPatch.context() as patch:
            patch.setattr(
                DeviceBeamSearch, "runs", lambda device, options: DeviceBeamSearch.knows(options)
            )
            yield


@pytest.fixture(
    params=["emulated", pytest.param("cuda", marks=[needs_cuda, pytest.mark.cuda])],
)
def device(request: pytest.FixtureRequest) -> Iterator[torch.device]:
    """Where kernels of CUDA run."""
    if request.param == "cuda":
        yield torch.device("cuda")
    else:
        with emulated_cuda():
            yield torch.device("cpu")


@pytest.fixture
def threads() -> Iterator[None]:
    """Brings the thread count back after a test that changes it."""
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


@pytest.fixture(autouse=True)
def seed() -> None:
    torch.manual_seed(0)
