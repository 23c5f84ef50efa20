"""Recurrent sequence-to-sequence models for PyTorch, fast and exact."""

from seq2seq_ext import _load as _load

__version__ = "0.1.0"
