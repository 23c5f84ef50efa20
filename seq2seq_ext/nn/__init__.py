"""Drop-in modules: parameters and defaults; the math is in :mod:`seq2seq_ext.ops`."""

from seq2seq_ext.nn.accelerate import AccelerateReport as AccelerateReport
from seq2seq_ext.nn.accelerate import accelerate as accelerate
from seq2seq_ext.nn.attention import AdditiveAttention as AdditiveAttention
from seq2seq_ext.nn.attention import DotAttention as DotAttention
from seq2seq_ext.nn.gru import GRU as GRU
from seq2seq_ext.nn.gru import GRUCell as GRUCell
from seq2seq_ext.nn.lstm import LSTM as LSTM
from seq2seq_ext.nn.lstm import LSTMCell as LSTMCell
from seq2seq_ext.nn.rnn import RNN as RNN
from seq2seq_ext.nn.rnn import RNNCell as RNNCell
