// The op library's schemas, all in one place. CPU kernels are registered by the noun's file.
#include <torch/library.h>

#include <string>

#include "encoder_inference.h"
#include "floors.h"
#include "kernels/isa.h"
#include "packed.h"
#include "parallel.h"
#include "recurrent.h"
#include "refuse.h"

namespace seq2seq_ext {

namespace {

std::string isa() { return isa_name(active_isa()); }

std::string path_of(at::ScalarType dtype) { return weight_path(weight_type(dtype)); }

// Tests force each path; an unknown or unsupported one raises.
void set_active_isa(const std::string& name) {
  const std::string error = set_isa(name);
  TORCH_CHECK_VALUE(error.empty(), error);
}

std::string load_error() { return isa_load_error(); }

// What op's pack gives for a direction, in elements of dtype; sizes: input, hidden, output.
int64_t packed_size(const std::string& op, at::IntArrayRef sizes, bool projected,
                    at::ScalarType dtype) {
  TORCH_CHECK_VALUE(sizes.size() == 3, "layer_packed_size: sizes: expected 3, got ", sizes.size());
  const CellKind cell = op == "lstm"  ? CellKind::kLstm
                        : op == "gru" ? CellKind::kGru
                                      : CellKind::kRnnTanh;
  return layer_packed_size(cell, {sizes[0], sizes[1], sizes[2], projected}, dtype);
}

std::string built_for_torch() { return SEQ2SEQ_EXT_TORCH; }
std::string built_for_cuda() { return SEQ2SEQ_EXT_CUDA; }

}  // namespace

TORCH_LIBRARY(seq2seq_ext, m) {
  m.def("isa() -> str", &isa);
  m.def("available_isas() -> str[]", &available_isas);
  m.def("weight_path(ScalarType dtype) -> str", &path_of);
  m.def("set_isa(str name) -> ()", &set_active_isa);
  m.def("isa_load_error() -> str", &load_error);
  m.def("max_threads() -> int", [] { return static_cast<int64_t>(max_threads()); });
  m.def("weights_state(Tensor[] weights) -> int?", &weights_state);
  m.def(
      "encoder_inference(Tensor src, Tensor lengths, Tensor? embedding, str cell, Tensor[] layers, "
      "int hidden_size, Tensor?[] projection, Tensor?[] bridge, Tensor?[] cell_bridge, "
      "Tensor?[] keys, bool feeds) -> (Tensor memory, Tensor keys, Tensor state)",
      &encoder_inference);
  m.def("floor_multiply(ScalarType dtype, int steps) -> int", &floor_multiply);
  m.def("floor_brgemm(ScalarType dtype, int steps) -> int", &floor_brgemm);
  m.def("floor_read(Tensor buffer, int times) -> int", &floor_read);
  m.def("built_for_torch() -> str", &built_for_torch);
  m.def("built_for_cuda() -> str", &built_for_cuda);

  // An op whose nouns register a kernel for each backend; the others are refused by name.
  const auto def = [&m](const char* schema) {
    m.def(schema);
    const std::string text = schema, name = text.substr(0, text.find('('));
    for (const auto key :
         {c10::DispatchKey::CompositeExplicitAutograd, c10::DispatchKey::NestedTensorCPU,
          c10::DispatchKey::AutogradNestedTensor})
      m.impl(name.c_str(),
             torch::dispatch(key, torch::CppFunction::makeFromBoxedFunction<&refuse>()));
  };
  def("linear(Tensor input, Tensor weight, Tensor? bias, Tensor? packed) -> Tensor");
  def("linear_backward(Tensor grad, Tensor input, Tensor weight, ScalarType? dtype, "
      "bool[3] wanted) -> (Tensor input, Tensor weight, Tensor bias)");
  def("linear_pack(Tensor weight, ScalarType? dtype) -> Tensor");
  m.def("linear_packed_shape(int outputs, int inputs, ScalarType dtype) -> int[]");
  m.def("layer_packed_size(str op, int[] sizes, bool projected, ScalarType dtype) -> int",
        &packed_size);
  def("linear_cross_entropy(Tensor input, Tensor linear_weight, Tensor? linear_bias, "
      "Tensor target, float label_smoothing, int? ignore_index, ScalarType? dtype, bool save) "
      "-> (Tensor loss, Tensor grad_input, Tensor grad_weight, Tensor grad_bias)");
  def("lstm(Tensor input, Tensor? lengths, Tensor h_0, Tensor c_0, Tensor[] weights, "
      "bool has_biases, Tensor? packed, bool save) "
      "-> (Tensor output, Tensor h_n, Tensor c_n, Tensor saved)");
  def("lstm_backward(Tensor grad_output, Tensor grad_h_n, Tensor grad_c_n, Tensor input, "
      "Tensor? lengths, Tensor h_0, Tensor c_0, Tensor[] weights, bool has_biases, "
      "Tensor output, Tensor saved, ScalarType? dtype, bool[2] wanted) "
      "-> (Tensor input, Tensor h_0, Tensor c_0, Tensor weight_ih, Tensor weight_hh, "
      "Tensor bias, Tensor weight_hr)");
  def("lstm_pack(Tensor[] weights, bool has_biases, ScalarType? dtype) -> Tensor");
  def("gru(Tensor input, Tensor? lengths, Tensor h_0, Tensor[] weights, bool has_biases, "
      "Tensor? packed, bool save) -> (Tensor output, Tensor h_n, Tensor saved)");
  def("gru_backward(Tensor grad_output, Tensor grad_h_n, Tensor input, Tensor? lengths, "
      "Tensor h_0, Tensor[] weights, bool has_biases, Tensor output, Tensor saved, "
      "ScalarType? dtype, bool[2] wanted) "
      "-> (Tensor input, Tensor h_0, Tensor weight_ih, Tensor weight_hh, Tensor bias_ih, "
      "Tensor bias_hh)");
  def("gru_pack(Tensor[] weights, bool has_biases, ScalarType? dtype) -> Tensor");
  def("rnn(Tensor input, Tensor? lengths, Tensor h_0, Tensor[] weights, bool has_biases, "
      "str nonlinearity, Tensor? packed, bool save) -> (Tensor output, Tensor h_n, Tensor saved)");
  def("rnn_backward(Tensor grad_output, Tensor grad_h_n, Tensor input, Tensor? lengths, "
      "Tensor h_0, Tensor[] weights, bool has_biases, str nonlinearity, Tensor output, "
      "Tensor saved, ScalarType? dtype, bool[2] wanted) "
      "-> (Tensor input, Tensor h_0, Tensor weight_ih, Tensor weight_hh, Tensor bias)");
  def("rnn_pack(Tensor[] weights, bool has_biases, ScalarType? dtype) -> Tensor");

  def("additive_attention(Tensor query, Tensor keys, Tensor v, Tensor memory, "
      "Tensor? memory_lengths) -> (Tensor context, Tensor weights)");
  def("additive_attention_backward(Tensor grad_context, Tensor grad_weights, Tensor query, "
      "Tensor keys, Tensor v, Tensor memory, Tensor? memory_lengths, Tensor weights) "
      "-> (Tensor query, Tensor keys, Tensor v, Tensor memory)");
  def("dot_attention(Tensor query, Tensor keys, Tensor memory, Tensor? memory_lengths, "
      "float scale) -> (Tensor context, Tensor weights)");
  def("dot_attention_backward(Tensor grad_context, Tensor grad_weights, Tensor query, "
      "Tensor keys, Tensor memory, Tensor? memory_lengths, float scale, Tensor weights) "
      "-> (Tensor query, Tensor keys, Tensor memory)");

  def("attentional_decoder(Tensor input, Tensor? lengths, Tensor vector_0, Tensor[] states, "
      "Tensor[] weights, str cell, Tensor combine_weight, Tensor? memory, Tensor? keys, "
      "Tensor? memory_lengths, Tensor? query_weight, Tensor? v, float scale, Tensor? layer_masks, "
      "Tensor? vector_mask, ScalarType? dtype, bool save) "
      "-> (Tensor output, Tensor alignment, Tensor saved)");
  def("attentional_decoder_backward(Tensor grad_output, Tensor? grad_alignment, Tensor input, "
      "Tensor? lengths, Tensor vector_0, Tensor[] states, Tensor[] weights, str cell, "
      "Tensor combine_weight, Tensor? memory, Tensor? keys, Tensor? memory_lengths, "
      "Tensor? query_weight, Tensor? v, float scale, Tensor? layer_masks, Tensor? vector_mask, "
      "ScalarType? dtype, Tensor alignment, Tensor saved) "
      "-> (Tensor input, Tensor vector_0, Tensor h_0, Tensor c_0, Tensor weight_ih_0, "
      "Tensor weight_ih, Tensor weight_hh, Tensor bias_ih, Tensor bias_hh, Tensor combine_weight, "
      "Tensor memory, Tensor keys, Tensor query_weight, Tensor v)");

  def("beam_search_step(Tensor log_probs, Tensor candidates, Tensor(a!) sums, "
      "Tensor(b!) counters, Tensor(c!) pool, Tensor(d!) nodes, Tensor eos_ids, Tensor scores, "
      "Tensor? terms, bool ranks_with_coverage, int min_length, str early_stopping, bool "
      "eos_beyond_beam, bool full_pool_is_closed, "
      "bool count_eos, int monotone_from, int pad_id, float diversity, str sampling, Tensor? "
      "perturbed, "
      "Tensor(e!)? keys, Tensor(f!)? places) -> (Tensor tokens, Tensor parents)");
  // Of a row's candidates the best `width` by log-prob plus the noise of its place.
  def("beam_search_draw(Tensor log_probs, Tensor candidates, Tensor places, int width) "
      "-> (Tensor log_probs, Tensor candidates, Tensor perturbed)");
  // grown, terms: what kernels/cuda/beam_search.h has of coverage [rows, S].
  def("beam_search_coverage(Tensor coverage, Tensor attention, Tensor lengths, str penalty, "
      "float beta) -> (Tensor grown, Tensor terms)");
  // listed, seen: [rows, 1 + most], what each row may or may not say and what it has said, as in
  // kernels/cuda/topk.h.
  def("beam_search_rules(Tensor sums, Tensor counters, Tensor nodes, Tensor eos_ids, "
      "int min_length, int ngram_size, int? bos_id, Tensor banned, Tensor prefix, bool force_eos, "
      "bool lists_seen) "
      "-> (Tensor listed, Tensor seen)");
  // floors: [rows, 2], the last tokens that top_k and top_p keep, as in kernels/cuda/topk.h.
  def("beam_search_nucleus(Tensor logits, Tensor? listed, Tensor? seen, float temperature, "
      "float penalty, int top_k, float top_p) -> Tensor floors");
  def("log_softmax_topk(Tensor logits, int k) -> (Tensor log_probs, Tensor indices)");
  def("linear_log_softmax_topk(Tensor input, Tensor weight, Tensor? bias, Tensor? packed, int k) "
      "-> (Tensor log_probs, Tensor indices)");
  // Of a search on a GPU; listed, seen: as beam_search_rules gives them. The log-probs of halves
  // are float32. perturbed: log-probs plus the noise of places, by which k are the best; empty
  // without.
  def("log_softmax_topk.ruled(Tensor logits, Tensor? listed, Tensor? seen, float temperature, "
      "float penalty, Tensor? floors, Tensor? places, int k) "
      "-> (Tensor log_probs, Tensor indices, Tensor perturbed)");
  def("linear_log_softmax_topk.ruled(Tensor input, Tensor weight, Tensor? bias, Tensor? packed, "
      "Tensor? listed, Tensor? seen, float temperature, float penalty, Tensor? places, int k) "
      "-> (Tensor log_probs, Tensor indices, Tensor perturbed)");
}

}  // namespace seq2seq_ext
