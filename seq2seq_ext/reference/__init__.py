"""Every op, the model's decode and the search in the shortest readable PyTorch.

The names and arguments are those of the fast ones, without packed weights, which are a matter of
speed; imports nothing of theirs. Read it beside the kernel of the same name. ``seq2seq`` holds the
model's encoding and decoding.
"""

from seq2seq_ext.reference import seq2seq as seq2seq
from seq2seq_ext.reference.attention import additive_attention as additive_attention
from seq2seq_ext.reference.attention import dot_attention as dot_attention
from seq2seq_ext.reference.attentional_decoder import attentional_decoder as attentional_decoder
from seq2seq_ext.reference.beam_search import beam_search as beam_search
from seq2seq_ext.reference.gru import gru as gru
from seq2seq_ext.reference.linear import linear as linear
from seq2seq_ext.reference.linear_cross_entropy import linear_cross_entropy as linear_cross_entropy
from seq2seq_ext.reference.lstm import lstm as lstm
from seq2seq_ext.reference.rnn import rnn as rnn
from seq2seq_ext.reference.topk import linear_log_softmax_topk as linear_log_softmax_topk
from seq2seq_ext.reference.topk import log_softmax_topk as log_softmax_topk
