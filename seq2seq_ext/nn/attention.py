"""Attention modules: parameters and defaults around the fused ops."""

import math
from typing import Any

import torch
from torch import Tensor, nn

from seq2seq_ext import ops
from seq2seq_ext.nn import check
from seq2seq_ext.ops import tracing

_SCORES = ("dot", "general", "scaled_dot")


class _Attention(nn.Module):
    """What both attentions share: the shapes of their arguments."""

    def __init__(self, query_size: int, memory_size: int) -> None:
        super().__init__()
        self._check_size("query_size", query_size)
        self._check_size("memory_size", memory_size)
        self.query_size = query_size
        self.memory_size = memory_size

    def project_memory(self, memory: Tensor) -> Tensor:
        """The keys of ``memory [B, S, M]``: made once a sentence, for all its queries."""
        raise NotImplementedError

    def _attend(
        self, query: Tensor, keys: Tensor, memory: Tensor, lengths: Tensor | None
    ) -> tuple[Tensor, Tensor]:
        raise NotImplementedError

    def forward(
        self,
        query: Tensor,
        memory: Tensor,
        memory_lengths: Tensor | None = None,
        projected_memory: Tensor | None = None,
    ) -> tuple[Tensor, Tensor]:
        """Attends over the memory.

        Args:
            query: ``[B, query_size]``, or ``[B, T, query_size]`` for T queries (beams or target
                steps) of each sentence.
            memory: ``[B, S, memory_size]``.
            memory_lengths: int64 ``[B]``, zeros allowed; None means all S.
            projected_memory: what :meth:`project_memory` gave for ``memory``.

        Returns:
            ``context [B, memory_size]`` and ``weights [B, S]``, or ``[B, T, memory_size]`` and
            ``[B, T, S]``; zero for an empty sentence.

        Raises:
            ValueError, TypeError: a wrong argument, named in the message.
        """
        self._check("query", query, (2, 3), self.query_size)
        self._check("memory", memory, (3,), self.memory_size)
        if query.shape[0] != memory.shape[0]:
            raise ValueError(
                f"{type(self).__name__}: query: expected {memory.shape[0]} rows like memory, "
                f"got {query.shape[0]}"
            )
        if memory_lengths is not None:
            check.tensor(type(self).__name__, "memory_lengths", memory_lengths)
        if projected_memory is None:
            projected_memory = self.project_memory(_without_padding(memory, memory_lengths))
        else:
            self._check("projected_memory", projected_memory, (3,), self.key_size)
            if projected_memory.shape[:2] != memory.shape[:2]:
                raise ValueError(
                    f"{type(self).__name__}: projected_memory: expected "
                    f"{tuple(memory.shape[:2])} rows like memory, "
                    f"got {tuple(projected_memory.shape[:2])}"
                )
        queries = query if query.dim() == 3 else query.unsqueeze(1)
        context, weights = self._attend(queries, projected_memory, memory, memory_lengths)
        if query.dim() == 3:
            return context, weights
        return context.squeeze(1), weights.squeeze(1)

    @property
    def key_size(self) -> int:
        """Features of a projected memory row."""
        return self.query_size

    def _check_size(self, name: str, size: int) -> None:
        check.integer(type(self).__name__, name, size)
        if size < 1:
            raise ValueError(f"{type(self).__name__}: {name}: expected at least 1, got {size}")

    def _check(self, name: str, x: Tensor, dims: tuple[int, ...], size: int) -> None:
        module = type(self).__name__
        check.strided(module, name, x)
        if x.dim() not in dims or x.shape[-1] != size:
            layouts = " or ".join(f"[B, {'*, ' * (d - 2)}{size}]" for d in dims)
            raise ValueError(f"{module}: {name}: expected shape {layouts}, got {tuple(x.shape)}")
        if not x.is_floating_point():
            raise TypeError(f"{module}: {name}: expected a floating dtype, got {x.dtype}")
        parameter = next(self.parameters(), x)
        if x.dtype != parameter.dtype and not torch.is_autocast_enabled(x.device.type):
            raise TypeError(
                f"{module}: {name}: expected {parameter.dtype} like the parameters, got {x.dtype}"
            )
        if x.device != parameter.device:
            raise ValueError(
                f"{module}: {name}: expected on {parameter.device} like the parameters, got "
                f"{x.device}"
            )


class AdditiveAttention(_Attention):
    """``score = v . tanh(W_q query + W_m memory)``, softmax over the real memory, weighted sum.

    Bahdanau et al. 2015, "Neural Machine Translation by Jointly Learning to Align and
    Translate", appendix A.1.2.

    Args:
        query_size: features of a query.
        memory_size: features of a memory row.
        attention_size: A, features of the hidden layer.

    Parameters: ``query_projection.weight [A, query_size]``,
    ``memory_projection.weight [A, memory_size]``, ``v [A]``.

    Example:
        >>> import torch
        >>> from seq2seq_ext.nn.attention import AdditiveAttention
        >>> attention = AdditiveAttention(query_size=4, memory_size=6, attention_size=5)
        >>> memory, lengths = torch.randn(2, 7, 6), torch.tensor([7, 3])
        >>> keys = attention.project_memory(memory)
        >>> context, weights = attention(torch.randn(2, 4), memory, lengths, keys)
        >>> context.shape, weights.shape
        (torch.Size([2, 6]), torch.Size([2, 7]))
    """

    def __init__(
        self,
        query_size: int,
        memory_size: int,
        attention_size: int,
        *,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__(query_size, memory_size)
        self._check_size("attention_size", attention_size)
        self.attention_size = attention_size
        self.query_projection = nn.Linear(
            query_size, attention_size, bias=False, device=device, dtype=dtype
        )
        self.memory_projection = nn.Linear(
            memory_size, attention_size, bias=False, device=device, dtype=dtype
        )
        self.v = nn.Parameter(torch.empty(attention_size, device=device, dtype=dtype))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Every parameter uniform in +-1/sqrt(its inputs), as in ``torch.nn.Linear``."""
        self.query_projection.reset_parameters()
        self.memory_projection.reset_parameters()
        bound = 1 / math.sqrt(self.attention_size)
        nn.init.uniform_(self.v, -bound, bound)

    @property
    def key_size(self) -> int:
        """Features of a projected memory row."""
        return self.attention_size

    def project_memory(self, memory: Tensor) -> Tensor:
        """``[B, S, M] -> [B, S, A]``: made once a sentence, for all its queries."""
        self._check("memory", memory, (3,), self.memory_size)
        return ops.linear(memory, self.memory_projection.weight)

    def _attend(
        self, query: Tensor, keys: Tensor, memory: Tensor, lengths: Tensor | None
    ) -> tuple[Tensor, Tensor]:
        projected = ops.linear(query, self.query_projection.weight)
        return ops.additive_attention(projected, keys, self.v, memory, lengths)

    def score_arguments(self) -> dict[str, Any]:
        """What :func:`seq2seq_ext.ops.attentional_decoder` takes for this score."""
        return {"query_weight": self.query_projection.weight, "v": self.v}

    def extra_repr(self) -> str:
        return f"{self.query_size}, {self.memory_size}, {self.attention_size}"


class DotAttention(_Attention):
    """``score = query . key``, softmax over the real memory, weighted sum.

    Luong et al. 2015, "Effective Approaches to Attention-based Neural Machine Translation",
    section 3.1.

    Args:
        query_size: features of a query.
        memory_size: features of a memory row.
        score: ``"dot"``: the key is the memory row; ``"general"``: the key is ``W memory``;
            ``"scaled_dot"``: as dot, divided by ``sqrt(query_size)`` (Vaswani et al. 2017).

    Parameters: ``memory_projection.weight [query_size, memory_size]`` for general, else none.

    Raises:
        ValueError: another score, or sizes that differ for a score without projection.

    Example:
        >>> import torch
        >>> from seq2seq_ext.nn.attention import DotAttention
        >>> attention = DotAttention(query_size=4, memory_size=6, score="general")
        >>> context, weights = attention(torch.randn(2, 3, 4), torch.randn(2, 7, 6))
        >>> context.shape, weights.shape
        (torch.Size([2, 3, 6]), torch.Size([2, 3, 7]))
    """

    def __init__(
        self,
        query_size: int,
        memory_size: int,
        score: str = "dot",
        *,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__(query_size, memory_size)
        if score not in _SCORES:
            raise ValueError(f"DotAttention: score: expected one of {_SCORES}, got {score!r}")
        if score != "general" and memory_size != query_size:
            raise ValueError(
                f"DotAttention: memory_size: expected query_size {query_size} for score "
                f"{score!r}, got {memory_size}"
            )
        self.score = score
        self.scale = 1 / math.sqrt(query_size) if score == "scaled_dot" else 1.0
        if score == "general":
            self.memory_projection = nn.Linear(
                memory_size, query_size, bias=False, device=device, dtype=dtype
            )

    def reset_parameters(self) -> None:
        """As in ``torch.nn.Linear``."""
        if self.score == "general":
            self.memory_projection.reset_parameters()

    def project_memory(self, memory: Tensor) -> Tensor:
        """``[B, S, M] -> [B, S, query_size]``: made once a sentence, for all its queries."""
        self._check("memory", memory, (3,), self.memory_size)
        if self.score != "general":
            return memory
        return ops.linear(memory, self.memory_projection.weight)

    def _attend(
        self, query: Tensor, keys: Tensor, memory: Tensor, lengths: Tensor | None
    ) -> tuple[Tensor, Tensor]:
        return ops.dot_attention(query, keys, memory, lengths, self.scale)

    def score_arguments(self) -> dict[str, Any]:
        """What :func:`seq2seq_ext.ops.attentional_decoder` takes for this score."""
        return {"scale": self.scale}

    def extra_repr(self) -> str:
        return f"{self.query_size}, {self.memory_size}, score={self.score!r}"


def _without_padding(memory: Tensor, lengths: Tensor | None) -> Tensor:
    """``memory`` with zeros past the lengths, where a projection's gradient would meet padding.

    The attention op never reads padding, but the gradient of a projection sums over all rows,
    and zero times NaN is NaN. Lengths that the op will refuse change nothing.
    """
    if lengths is None or not torch.is_grad_enabled() or lengths.shape != memory.shape[:1]:
        return memory
    if lengths.device != memory.device and tracing.is_captured(memory):
        return memory
    past = torch.arange(memory.size(1), device=memory.device) >= lengths.to(memory.device)[:, None]
    return memory.masked_fill(past[:, :, None], 0.0)
