"""onnxruntime's LSTM and its attentional decoder, AttnLSTM, with our weights."""

from collections.abc import Callable
from typing import Any

import numpy as np
import onnxruntime
import torch
from onnx import TensorProto, helper, numpy_helper
from torch import Tensor

from seq2seq_ext.models import Seq2Seq

NAME = f"onnxruntime {onnxruntime.__version__}"

# Gates: i, o, f, c in ONNX; i, f, g, o in torch.
_GATES = (0, 3, 1, 2)


def _gates(weight: Tensor) -> Tensor:
    chunks = weight.detach().chunk(4)
    return torch.cat([chunks[gate] for gate in _GATES])


def _lstm_weights(weights: dict[str, Tensor], suffixes: list[str]) -> list[np.ndarray]:
    """W, R and B of one layer, a direction for each suffix."""

    def stack(*names: str) -> np.ndarray:
        directions = [
            torch.cat([_gates(weights[name + suffix]) for name in names]) for suffix in suffixes
        ]
        return torch.stack(directions).numpy()

    return [stack("weight_ih"), stack("weight_hh"), stack("bias_ih", "bias_hh")]


class _Graph:
    """Nodes and constants on their way to a session."""

    def __init__(self) -> None:
        self.nodes: list[Any] = []
        self.constants: list[Any] = []

    def constant(self, array: Any) -> str:
        name = f"constant{len(self.constants)}"
        self.constants.append(numpy_helper.from_array(np.ascontiguousarray(array), name))
        return name

    def node(self, kind: str, inputs: list[str], outputs: list[str], **attributes: Any) -> str:
        self.nodes.append(helper.make_node(kind, inputs, outputs, **attributes))
        return outputs[0]

    def session(self, inputs: dict[str, int], output: str) -> onnxruntime.InferenceSession:
        """``inputs``: element types; shapes are left open."""
        graph = helper.make_graph(
            self.nodes,
            "graph",
            [helper.make_tensor_value_info(name, kind, None) for name, kind in inputs.items()],
            [helper.make_tensor_value_info(output, TensorProto.FLOAT, None)],
            self.constants,
        )
        versions = [helper.make_opsetid("", 14), helper.make_opsetid("com.microsoft", 1)]
        model = helper.make_model(graph, opset_imports=versions)
        model.ir_version = 8
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = torch.get_num_threads()
        return onnxruntime.InferenceSession(
            model.SerializeToString(), options, providers=["CPUExecutionProvider"]
        )


def lstm(module: torch.nn.RNNBase) -> Callable[[Tensor, Tensor], Tensor]:
    """``run(x [T, B, I], lengths [B]) -> output [T, B, D * H]`` of an LSTM's weights."""
    directions = ["", "_reverse"] if module.bidirectional else [""]
    weights, graph, x = module.state_dict(), _Graph(), "x"
    shape = graph.constant(np.array([0, 0, -1]))
    for layer in range(module.num_layers):
        suffixes = [f"_l{layer}{direction}" for direction in directions]
        constants = [graph.constant(array) for array in _lstm_weights(weights, suffixes)]
        y = graph.node(
            "LSTM",
            [x, *constants, "lengths"],
            [f"y{layer}"],
            hidden_size=module.hidden_size,
            direction="bidirectional" if module.bidirectional else "forward",
        )  # [T, D, B, H]
        y = graph.node("Transpose", [y], [f"t{layer}"], perm=[0, 2, 1, 3])
        x = graph.node("Reshape", [y, shape], [f"x{layer}"])
    session = graph.session({"x": TensorProto.FLOAT, "lengths": TensorProto.INT32}, x)

    def run(x: Tensor, lengths: Tensor) -> Tensor:
        (output,) = session.run(None, {"x": x.numpy(), "lengths": lengths.int().numpy()})
        return torch.from_numpy(output)

    return run


def attention_decoder(model: Seq2Seq) -> Callable[..., Tensor]:
    """``run(x [T, B, E], memory, lengths, h, c) -> hidden states [T, B, H]``.

    The teacher-forced decoder of one layer with additive attention and input feeding. AttnLSTM
    has no tanh behind the combination, so the model's must be in its linear range.
    """
    ours, size = model.decoder, model.config.hidden_size
    weights, graph = ours.layers.state_dict(), _Graph()
    lstm_weights = _lstm_weights(weights, ["_l0"])
    context, hidden = ours.combine.weight.detach().split((model.config.memory_size, size), dim=1)
    attention = ours.attention
    arrays = [
        attention.query_projection.weight.detach().t(),
        attention.memory_projection.weight.detach().t(),
        attention.v.detach(),
    ]
    w, r, b = (graph.constant(array) for array in lstm_weights)
    query, key, v = (graph.constant(array[None].numpy()) for array in arrays)
    combine = graph.constant(torch.cat((hidden, context), dim=1).t()[None].numpy())
    graph.node(
        "AttnLSTM",
        ["x", w, r, b, "steps", "h", "c", "", query, key, v, "memory", "lengths", combine],
        ["y"],
        domain="com.microsoft",
        hidden_size=size,
        direction="forward",
    )
    kinds = dict.fromkeys(("x", "h", "c", "memory"), TensorProto.FLOAT)
    kinds |= dict.fromkeys(("steps", "lengths"), TensorProto.INT32)
    session = graph.session(kinds, "y")

    def run(x: Tensor, memory: Tensor, lengths: Tensor, h: Tensor, c: Tensor) -> Tensor:
        steps = np.full(x.size(1), x.size(0), dtype=np.int32)
        feed = {"x": x, "memory": memory, "lengths": lengths.int(), "h": h[None], "c": c[None]}
        arrays = {name: tensor.contiguous().numpy() for name, tensor in feed.items()}
        (output,) = session.run(None, {**arrays, "steps": steps})
        return torch.from_numpy(output[:, 0])

    return run
