"""Recurrent sequence-to-sequence models for PyTorch, fast and exact."""

from seq2seq_ext import _load as _load
from seq2seq_ext.info import info as info
from seq2seq_ext.nn import GRU as GRU
from seq2seq_ext.nn import LSTM as LSTM
from seq2seq_ext.nn import RNN as RNN
from seq2seq_ext.nn import AdditiveAttention as AdditiveAttention
from seq2seq_ext.nn import DotAttention as DotAttention
from seq2seq_ext.nn import GRUCell as GRUCell
from seq2seq_ext.nn import LSTMCell as LSTMCell
from seq2seq_ext.nn import RNNCell as RNNCell
from seq2seq_ext.nn import accelerate as accelerate
from seq2seq_ext.ops import backend as backend

__version__ = "0.1.0"
