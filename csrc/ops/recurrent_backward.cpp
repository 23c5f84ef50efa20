// Backward of a layer: the loop gives the gradients of its gates, then a few large products give
// those of the weights and the input.
#include <array>
#include <vector>

#include "huge_tensor.h"
#include "packed.h"
#include "products.h"
#include "recurrent_kernels.h"
#include "recurrent_team.h"

namespace seq2seq_ext {

namespace {

using at::Tensor;

template <typename T>
class Backward {
 public:
  Backward(const LayerInputs& in, const LayerBackward& given)
      : in_(in),
        given_(given),
        type_(product_type(in.op, in.input, given.dtype)),
        k_(cell_kernels<T>(in.cell, type_)),
        weights_(in.op, in.weights, in.has_biases, k_.gates, k_.has_cell),
        s_(check_inputs(in, weights_, k_.gates)),
        ragged_(check_row_lengths(in, s_), s_.batch, s_.steps),
        rows_(ragged_.total()) {
    check();
    input_ = dense_rows(in.input), state_ = dense_rows(given.output);
    h_0_ = in.h_0.contiguous();
    if (k_.has_cell) c_0_ = in.c_0.contiguous();
  }

  LayerGradients run() {
    run_steps();
    differentiate_weights();
    differentiate_input();
    return std::move(g_);
  }

 private:
  void check() const {
    const auto check = [&](const char* name, const Tensor& t, at::IntArrayRef shape) {
      check_like(in_.op, name, t, in_.input, "input");
      check_shape(in_.op, name, t, shape);
    };
    check("output", given_.output, {s_.steps, s_.batch, s_.directions * s_.output});
    check("saved", given_.saved, {s_.directions, s_.steps * s_.batch, k_.saved * s_.hidden});
    check("grad_output", given_.grad_output, given_.output.sizes());
    check("grad_h_n", given_.grad_h_n, in_.h_0.sizes());
    if (k_.has_cell) check("grad_c_n", given_.grad_c_n, in_.c_0.sizes());
  }

  Tensor empty(at::IntArrayRef shape) const { return huge_empty(shape, in_.input.options()); }

  void run_steps() {
    const int64_t projected_rows = s_.projected ? rows_ : 0;
    const Tensor grad_output = dense_rows(given_.grad_output), kept = given_.saved.contiguous();
    const Tensor packed =
        pack_directions<T>(weights_, at::kByte, k_.packed_backward_size(s_), k_.pack_backward);
    g_.h_0 = given_.grad_h_n.clone(at::MemoryFormat::Contiguous);
    if (k_.has_cell) g_.c_0 = given_.grad_c_n.clone(at::MemoryFormat::Contiguous);
    gates_x_ = empty({s_.directions, rows_, k_.gates * s_.hidden});
    gates_h_ = k_.split_gates ? empty(gates_x_.sizes()) : gates_x_;
    projected_ = empty({s_.directions, projected_rows, s_.hidden});
    grad_projected_ = empty({s_.directions, projected_rows, s_.output});
    std::vector<RecurrentBackward<T>> args(s_.directions);
    std::vector<Tensor> workspaces(s_.directions);
    const auto prepare = [&](int64_t d, int threads) {
      workspaces[d] = at::empty({k_.backward_workspace(s_, threads)}, at::kByte);
      args[d] = {ragged_.view(),
                 s_,
                 d == 1,
                 slab<void>(packed, d),
                 sequence<const T>(state_.data_ptr<T>(), state_, d * s_.output),
                 sequence<const T>(grad_output.data_ptr<T>(), grad_output, d * s_.output),
                 slab<T>(h_0_, d),
                 slab<T>(c_0_, d),
                 slab<T>(kept, d),
                 slab<T>(g_.h_0, d),
                 slab<T>(g_.c_0, d),
                 slab<T>(gates_x_, d),
                 slab<T>(gates_h_, d),
                 slab<T>(projected_, d),
                 slab<T>(grad_projected_, d),
                 workspaces[d].data_ptr()};
    };
    run_directions(s_, 1, ragged_, prepare,
                   [&](int64_t, int64_t d, const Team& team) { k_.backward(args[d], team); });
  }

  // Pointers to the rows (s, b) of direction d, in packed order.
  template <typename U, class Row>
  std::vector<U*> row_pointers(int64_t d, const Row& row) const {
    const RaggedBatch r = ragged_.view();
    std::vector<U*> pointers;
    pointers.reserve(rows_);
    for (int64_t s = 0; s < r.steps; ++s)
      for (int64_t b = 0; b < r.active[s]; ++b)
        pointers.push_back(row(d == 1 ? r.lengths[b] - 1 - s : s, s, r.rows[b]));
    return pointers;
  }

  std::vector<const T*> inputs(int64_t d) const {
    const T* const x = input_.const_data_ptr<T>();
    return row_pointers<const T>(d, [&](int64_t t, int64_t, int64_t b) {
      return x + t * input_.stride(0) + b * input_.stride(1);
    });
  }

  // What a step read of the one before.
  std::vector<const T*> states(int64_t d) const {
    const T* const first = slab<T>(h_0_, d);
    const T* const later = state_.const_data_ptr<T>() + d * s_.output * state_.stride(2);
    return row_pointers<const T>(d, [&](int64_t t, int64_t step, int64_t b) {
      const int64_t before = d == 1 ? t + 1 : t - 1;
      return step == 0 ? first + b * s_.output
                       : later + before * state_.stride(0) + b * state_.stride(1);
    });
  }

  void differentiate_weights() {
    const int64_t directions = given_.wants_weights() ? s_.directions : 0;
    const int64_t gate_rows = k_.gates * s_.hidden;
    g_.weight_ih = empty({directions, gate_rows, s_.input});
    g_.weight_hh = empty({directions, gate_rows, s_.output});
    g_.weight_hr = empty({s_.projected ? directions : 0, s_.output, s_.hidden});
    const auto bias = [&](const Tensor& gates) {
      return in_.has_biases && directions ? gates.sum(1) : empty({0, gate_rows});
    };
    g_.bias_ih = bias(gates_x_);
    g_.bias_hh = k_.split_gates ? bias(gates_h_) : g_.bias_ih;
    for (int64_t d = 0; d < directions; ++d) {
      weight_gradient<T>(gemm(), gates_x_[d], inputs(d), g_.weight_ih[d]);
      weight_gradient<T>(gemm(), gates_h_[d], states(d), g_.weight_hh[d]);
      if (s_.projected)
        weight_gradient<T>(gemm(), grad_projected_[d],
                           matrix_rows<const T>(slab<T>(projected_, d), rows_, s_.hidden),
                           g_.weight_hr[d]);
    }
  }

  void differentiate_input() {
    if (!given_.wants_input()) return void(g_.input = empty({0}));
    g_.input = huge_zeros(in_.input.sizes(), in_.input.options());
    T* const dx = g_.input.template data_ptr<T>();
    for (int64_t d = 0; d < s_.directions; ++d) {
      const auto grads = row_pointers<T>(d, [&](int64_t t, int64_t, int64_t b) {
        return dx + t * g_.input.stride(0) + b * g_.input.stride(1);
      });
      input_gradient<T>(gemm(), gates_x_[d], weights_.weight_ih(d), grads, d == 1);
    }
  }

  const GemmKernels<T>& gemm() const { return kernels<T>().gemm[type_]; }

  const LayerInputs& in_;
  const LayerBackward& given_;
  const WeightType type_;
  const RecurrentKernels<T>& k_;
  const Weights weights_;
  const Sizes s_;
  const Ragged ragged_;
  const int64_t rows_;
  Tensor input_, state_, h_0_, c_0_;
  Tensor gates_x_, gates_h_;           // [D, N, G*H]; the same unless a gate is split
  Tensor projected_, grad_projected_;  // [D, N, H] and [D, N, P] with weight_hr
  LayerGradients g_;
};

}  // namespace

LayerGradients layer_backward(const LayerInputs& in, const LayerBackward& given) {
  check_floating(in.op, "input", in.input);
  return in.input.scalar_type() == at::kFloat ? Backward<float>(in, given).run()
                                              : Backward<double>(in, given).run();
}

}  // namespace seq2seq_ext
