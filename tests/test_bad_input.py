"""Every argument of every public call on tensors, wrong in every way: an error that names it."""

import re
from functools import partial

import pytest
import torch
from bad_values import (
    Call,
    Wanted,
    cases,
    choice,
    flag,
    ids,
    instance,
    integer,
    lengths,
    number,
    tensor,
    tensors,
)
from seq2seq_cases import OPTIONS, make

import seq2seq_ext
from seq2seq_ext import ops

torch.manual_seed(0)
T, B, I, H, A, M, S, V = 4, 3, 5, 6, 7, 8, 9, 11
X = torch.randn(T, B, I)
STATE = torch.randn(1, B, H)
LENGTHS = lengths(torch.tensor([4, 0, 2]), low=0, high=T)
MEMORY_LENGTHS = lengths(torch.tensor([9, 0, 2]), low=0, high=S)


def weights(kind: type[torch.nn.RNNBase]) -> list[torch.Tensor]:
    return [w.detach() for w in kind(I, H).parameters()]


def layer_op(name: str, kind: type[torch.nn.RNNBase]) -> dict[str, Call]:
    state = tensor(STATE)
    states = {"h_0": state, "c_0": state} if name == "lstm" else {"h_0": state}
    arguments = {
        "input": tensor(X, free=(0,)),
        **states,
        "weights": tensors(weights(kind)),
        "lengths": LENGTHS,
        "packed": tensor(getattr(ops, f"{name}_pack")(weights(kind)), optional=True),
    }
    if name == "rnn":
        arguments["nonlinearity"] = choice("tanh")
    pack = {"weights": tensors(weights(kind)), "dtype": DTYPE}
    return {
        f"ops.{name}": Call(getattr(ops, name), arguments),
        f"ops.{name}_pack": Call(getattr(ops, f"{name}_pack"), pack),
    }


DTYPE = Wanted(torch.float32, {"str": "float32", "half": torch.half, "complex": torch.complex64})
WEIGHT = torch.randn(V, H)
QUERY, KEYS, MEMORY = torch.randn(B, T, A), torch.randn(B, S, A), torch.randn(B, S, M)
LINEAR = {
    "input": tensor(torch.randn(B, H), free=(0,), but=("deeper",)),
    "weight": tensor(WEIGHT, free=(0,)),
}
BIAS = tensor(torch.randn(V), optional=True)
PACKED = tensor(ops.linear_pack(WEIGHT), optional=True)
K = integer(2, low=1, high=V)
DECODER = {
    "input": tensor(torch.randn(B, T, I), free=(1,)),
    "vector_0": tensor(torch.randn(B, H)),
    "states": tensors([torch.randn(2, B, H), torch.randn(2, B, H)]),
    "weights": tensors([w.detach() for w in torch.nn.LSTM(I + H, H, 2).parameters()]),
    "combine_weight": tensor(torch.randn(H, M + H)),
    "cell": choice("lstm"),
    "lengths": LENGTHS,
    "memory": tensor(MEMORY, optional=True),
    "keys": tensor(KEYS, optional=True),
    "memory_lengths": MEMORY_LENGTHS,
    "query_weight": tensor(torch.randn(A, H), optional=True),
    "v": tensor(torch.randn(A), optional=True),
    "layer_masks": tensor(torch.ones(1, B, T, H), optional=True),
    "vector_mask": tensor(torch.ones(B, T, H), optional=True),
}
ATTENTION = {
    "query": tensor(QUERY, free=(1,)),
    "keys": tensor(KEYS),
    "memory": tensor(MEMORY, free=(2,)),
}
OPS = {
    **layer_op("lstm", torch.nn.LSTM),
    **layer_op("gru", torch.nn.GRU),
    **layer_op("rnn", torch.nn.RNN),
    "ops.linear": Call(ops.linear, {**LINEAR, "bias": BIAS, "packed": PACKED}),
    "ops.linear_pack": Call(
        ops.linear_pack, {"weight": tensor(WEIGHT, free=(0, 1), but=("meta",)), "dtype": DTYPE}
    ),
    "ops.linear_log_softmax_topk": Call(
        ops.linear_log_softmax_topk,
        {
            **LINEAR,
            "input": tensor(torch.randn(B, H), free=(0,)),
            "bias": BIAS,
            "k": K,
            "packed": PACKED,
        },
    ),
    "ops.log_softmax_topk": Call(
        ops.log_softmax_topk,
        {"logits": tensor(torch.randn(B, V), free=(0, 1), but=("meta",)), "k": K},
    ),
    "ops.linear_cross_entropy": Call(
        ops.linear_cross_entropy,
        {
            "input": tensor(torch.randn(B, H)),
            "linear_weight": tensor(WEIGHT, free=(0,)),
            "target": ids(torch.tensor([0, 5, 10]), vocabulary=V),
            "linear_bias": BIAS,
            "label_smoothing": number(0.1, low=0, high=1),
            "ignore_index": Wanted(-100, {"str": "x", "float": 0.5, "list": [1], "huge": 10**30}),
        },
    ),
    "ops.additive_attention": Call(
        ops.additive_attention,
        {**ATTENTION, "v": tensor(torch.randn(A)), "memory_lengths": MEMORY_LENGTHS},
    ),
    "ops.dot_attention": Call(ops.dot_attention, {**ATTENTION, "memory_lengths": MEMORY_LENGTHS}),
    "ops.attentional_decoder": Call(ops.attentional_decoder, DECODER),
}

SIZE, CELL_SIZE = integer(6, high=2**31 - 1), integer(6, low=0, high=2**31 - 1)
PAIR = {"one": STATE, "three": (STATE,) * 3, "numbers": (1.0, 2.0), "Nones": (None, None)}


def hx(shape: tuple[int, ...], states: int) -> Wanted:
    one = tensor(torch.randn(shape), optional=True)
    if states == 1:
        return one
    good = one.good
    bad = {f"{what} h": (wrong, good) for what, wrong in one.bad.items()}
    bad |= {f"{what} c": (good, wrong) for what, wrong in one.bad.items()}
    return Wanted((good, good), {**bad, **PAIR})


def layers() -> dict[str, Call]:
    calls = {}
    for name, states in (("LSTM", 2), ("GRU", 1), ("RNN", 1)):
        kind, cell = getattr(seq2seq_ext, name), getattr(seq2seq_ext, f"{name}Cell")
        constructor = {
            "input_size": SIZE,
            "hidden_size": SIZE,
            "num_layers": integer(2, high=2**16),
            "dropout": number(0.5, low=0, high=1),
            "bidirectional": Wanted(True, {"None": None, "str": "yes", "list": [True]}),
            "bias": flag(True),
            "batch_first": flag(False),
        }
        if name == "LSTM":
            constructor["proj_size"] = integer(3, low=0, high=5)
        if name == "RNN":
            constructor["nonlinearity"] = choice("relu")
        calls[name] = Call(kind, constructor)
        calls[f"{name}Cell"] = Call(cell, {"input_size": CELL_SIZE, "hidden_size": CELL_SIZE})
        step = {"input": tensor(X[0], free=(0,)), "hx": hx((B, H), states)}
        calls[f"{name}Cell()"] = Call(cell(I, H), step)
        whole = {"input": tensor(X, free=(0,)), "hx": hx((1, B, H), states), "lengths": LENGTHS}
        calls[f"{name}()"] = Call(kind(I, H), whole)
    return calls


def attentions() -> dict[str, Call]:
    calls = {}
    for name, kind, sizes in (
        ("AdditiveAttention", seq2seq_ext.AdditiveAttention, {"attention_size": SIZE}),
        ("DotAttention", partial(seq2seq_ext.DotAttention, score="general"), {}),
    ):
        calls[name] = Call(kind, {"query_size": SIZE, "memory_size": SIZE, **sizes})
        module = kind(H, M, *([A] if sizes else []))
        arguments = {
            "query": tensor(torch.randn(B, T, H), free=(1,)),
            "memory": tensor(MEMORY, free=(1,)),
            "memory_lengths": MEMORY_LENGTHS,
            "projected_memory": tensor(module.project_memory(MEMORY).detach(), optional=True),
        }
        calls[f"{name}()"] = Call(module, arguments)
        memory = {"memory": tensor(MEMORY, free=(0, 1))}
        calls[f"{name}.project_memory"] = Call(module.project_memory, memory)
    calls["DotAttention(score)"] = Call(
        partial(seq2seq_ext.DotAttention, 4, 4), {"score": choice("dot")}
    )
    calls["accelerate"] = Call(
        seq2seq_ext.accelerate, {"module": instance(torch.nn.Linear(2, 2), type=torch.nn.LSTM)}
    )
    calls["backend"] = Call(
        lambda name: seq2seq_ext.backend(name).__enter__(), {"name": choice("kernels")}
    )
    return calls


def with_backend(name: str) -> None:
    with seq2seq_ext.backend(name):
        pass


def models() -> dict[str, Call]:
    model = make(torch.float32)
    decoder = seq2seq_ext.Decoder(model)
    source = {
        "src": ids(torch.tensor([[4, 5, 6], [7, 8, 9]]), free=(1,), vocabulary=11),
        "src_lengths": _required(lengths(torch.tensor([3, 0]), low=0, high=3)),
    }
    target = {"tgt": ids(torch.tensor([[2, 5, 3], [2, 3, 0]]), free=(1,), vocabulary=13)}
    loss = {
        **source,
        **target,
        "tgt_lengths": _required(lengths(torch.tensor([3, 2]), low=2, high=3)),
        "label_smoothing": number(0.1, low=0, high=1),
    }
    options = {"options": instance(OPTIONS, three=[OPTIONS] * 3, ints=[1, 2])}
    memory = model.encode(source["src"].good, source["src_lengths"].good)
    step = {
        "tokens": ids(torch.tensor([2, 2]), vocabulary=13),
        "state": instance(memory.state, memory=memory),
        "memory": instance(memory, state=memory.state),
        "packed": instance(model.pack()),
    }
    del step["packed"].bad["None"]
    speech = make(torch.float32, source_vocabulary_size=None, source_feature_size=6)
    features = {
        "src": tensor(torch.randn(2, 3, 6), free=(1,)),
        "src_lengths": source["src_lengths"],
    }
    return {
        "Seq2Seq": Call(seq2seq_ext.Seq2Seq, {"config": instance(model.config)}),
        "Seq2Seq()": Call(model, {**source, **target}),
        "Seq2Seq.loss": Call(model.loss, loss),
        "Seq2Seq.encode": Call(model.encode, source),
        "Seq2Seq.encode features": Call(speech.encode, features),
        "Seq2Seq.generate": Call(model.generate, {**source, **options}),
        "Seq2Seq.step": Call(model.step, step),
        "Seq2Seq.native_decoder": Call(model.native_decoder, {"dtype": choice("int8")}),
        "Decoder": Call(
            seq2seq_ext.Decoder,
            {"model": instance(model, double=make(torch.float64)), "dtype": choice("float32")},
        ),
        "Decoder.encode": Call(decoder.encode, source),
        "Decoder.generate": Call(decoder.generate, {**source, **options}),
        "Decoder.step": Call(decoder.step, {k: step[k] for k in ("tokens", "state", "memory")}),
    }


def _required(wanted: Wanted) -> Wanted:
    return Wanted(wanted.good, {"None": None, **wanted.bad})


CALLS = {**OPS, **layers(), **attentions(), **models()}


@pytest.mark.parametrize("call", CALLS)
def test_good_arguments_are_taken(call: str) -> None:
    CALLS[call].run()


@pytest.mark.parametrize(("call", "argument", "what"), list(cases(CALLS)))
def test_bad_arguments_are_named(call: str, argument: str, what: str) -> None:
    wrong = CALLS[call].arguments[argument].bad[what]
    with pytest.raises((ValueError, TypeError, RuntimeError)) as raised:
        CALLS[call].run(**{argument: wrong})
    message = str(raised.value)
    # Of two sizes that differ, either argument may be named.
    sizes = re.match("(longer|shorter|empty) at", what)
    names = "|".join(CALLS[call].arguments) if sizes else argument
    assert re.search(rf"\b({names})\b", message), message
    assert re.search(r"expected|must|should|has to", message.lower()), message
