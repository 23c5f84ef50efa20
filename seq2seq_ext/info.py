"""What this build of the package is and what it runs on."""

import torch


def _gemm() -> str:
    """Which path multiplies weights of each type."""
    ops = torch.ops.seq2seq_ext
    paths = [
        f"{str(dtype).removeprefix('torch.')} weights {ops.weight_path(dtype)}"
        for dtype in (torch.float32, torch.bfloat16, torch.int8)
    ]
    return f"packed, {ops.isa()}: {'; '.join(paths)}"


def info() -> dict[str, str]:
    """Version, torch, instruction set, GEMM path, threads and CUDA, each as text.

    Example:
        >>> import seq2seq_ext
        >>> list(seq2seq_ext.info())
        ['version', 'torch', 'built_for_torch', 'isa', 'isas', 'gemm', 'threads', 'cuda']
    """
    from seq2seq_ext import __version__

    ops = torch.ops.seq2seq_ext
    return {
        "version": __version__,
        "torch": torch.__version__,
        "built_for_torch": ops.built_for_torch(),
        "isa": ops.isa(),
        "isas": ", ".join(ops.available_isas()),
        "gemm": _gemm(),
        "threads": str(torch.get_num_threads()),
        "cuda": ops.built_for_cuda(),
    }
