"""Typed calls of the op library, with tracing, autograd and autocast."""

from seq2seq_ext.ops.attention import additive_attention as additive_attention
from seq2seq_ext.ops.attention import dot_attention as dot_attention
from seq2seq_ext.ops.attentional_decoder import attentional_decoder as attentional_decoder
from seq2seq_ext.ops.backend import backend as backend
from seq2seq_ext.ops.gru import gru as gru
from seq2seq_ext.ops.gru import gru_pack as gru_pack
from seq2seq_ext.ops.linear import linear as linear
from seq2seq_ext.ops.linear import linear_pack as linear_pack
from seq2seq_ext.ops.linear_cross_entropy import linear_cross_entropy as linear_cross_entropy
from seq2seq_ext.ops.lstm import lstm as lstm
from seq2seq_ext.ops.lstm import lstm_pack as lstm_pack
from seq2seq_ext.ops.rnn import rnn as rnn
from seq2seq_ext.ops.rnn import rnn_pack as rnn_pack
from seq2seq_ext.ops.topk import linear_log_softmax_topk as linear_log_softmax_topk
from seq2seq_ext.ops.topk import log_softmax_topk as log_softmax_topk
