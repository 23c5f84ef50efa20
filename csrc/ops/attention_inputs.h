// The checked inputs of an attention op, on any device.
#pragma once

#include <ATen/ops/empty.h>

#include <optional>

#include "check.h"
#include "kernels/attention.h"

namespace seq2seq_ext {

struct AttentionArguments {
  const char* op;
  at::Tensor query, keys;
  std::optional<at::Tensor> v;  // additive only
  at::Tensor memory;
  std::optional<at::Tensor> lengths;
  double scale;
};

// Checked inputs, features contiguous.
class AttentionBatch {
 public:
  // check_lengths(op, name, lengths, batch, source) gives them as the kernels read them.
  template <class CheckLengths>
  AttentionBatch(const AttentionArguments& in, const CheckLengths& check_lengths) : in_(in) {
    check_dim(in.op, "query", in.query, 3, "[B, T, A]");
    check_dim(in.op, "keys", in.keys, 3, "[B, S, A]");
    check_dim(in.op, "memory", in.memory, 3, "[B, S, M]");
    batch = in.query.size(0);
    sizes = {in.query.size(1), 0, in.memory.size(1), in.query.size(2), in.memory.size(2)};
    check_like(in.op, "keys", in.keys, in.query, "query");
    check_like(in.op, "memory", in.memory, in.query, "query");
    check_shape(in.op, "memory", in.memory, {batch, sizes.source, sizes.memory});
    check_shape(in.op, "keys", in.keys, {batch, sizes.source, sizes.attention});
    in_.query = dense_rows(in.query);
    in_.keys = dense_rows(in.keys);
    in_.memory = dense_rows(in.memory);
    if (in.v) {
      check_like(in.op, "v", *in.v, in.query, "query");
      check_shape(in.op, "v", *in.v, {sizes.attention});
      in_.v = in.v->contiguous();
    }
    if (in.lengths)
      lengths_ = check_lengths(in.op, "memory_lengths", *in.lengths, batch, sizes.source);
  }

  at::Tensor empty(at::IntArrayRef shape) const { return at::empty(shape, in_.query.options()); }
  void check(const char* name, const at::Tensor& t, at::IntArrayRef shape) const {
    check_like(in_.op, name, t, in_.query, "query");
    check_shape(in_.op, name, t, shape);
  }
  bool is_additive() const { return in_.v.has_value(); }
  const AttentionArguments& arguments() const { return in_; }
  const at::Tensor& lengths() const { return lengths_; }  // [B], or undefined

  // Queries [begin, end) of sentence b.
  template <typename T>
  AttentionInputs<T> sentence(int64_t b, int64_t begin, int64_t end) const {
    AttentionSizes s = sizes;
    s.queries = end - begin;
    s.length = lengths_.defined() ? lengths_.const_data_ptr<int64_t>()[b] : s.source;
    return {s,
            rows<T>(in_.query, b, begin),
            rows<T>(in_.keys, b),
            in_.v ? in_.v->const_data_ptr<T>() : nullptr,
            rows<T>(in_.memory, b),
            static_cast<T>(in_.scale)};
  }

  template <typename T>
  static Rows<const T> rows(const at::Tensor& t, int64_t b, int64_t row = 0) {
    return {t.const_data_ptr<T>() + b * t.stride(0) + row * t.stride(1), t.stride(1)};
  }

  int64_t batch;
  AttentionSizes sizes;  // length is each sentence's own

 private:
  AttentionArguments in_;
  at::Tensor lengths_;
};

}  // namespace seq2seq_ext
