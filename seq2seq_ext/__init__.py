"""Recurrent sequence-to-sequence models for PyTorch, fast and exact."""

from seq2seq_ext import _load as _load
from seq2seq_ext.ops import backend as backend

__version__ = "0.1.0"
