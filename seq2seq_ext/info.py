"""What this build of the package is and what it runs on."""

import torch


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
        "gemm": f"packed f32 micro-kernel ({ops.isa()})",
        "threads": str(torch.get_num_threads()),
        "cuda": ops.built_for_cuda(),
    }
