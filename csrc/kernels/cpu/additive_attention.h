// Scores of additive attention (Bahdanau et al. 2015): score(t, s) = sum_a v_a tanh(q_ta + k_sa).
//
// T * S * A tanh bound it, so tanh(q + k) is split into what is made once for a query, once for
// a key, and a division for each pair. The form is chosen for each query from its own magnitude
// and that of its sentence's real keys, never from its batch.
#pragma once

#include "attention_rows.h"

namespace seq2seq_ext::SEQ2SEQ_EXT_ISA {

// tanh(q + k) = (tanh q + tanh k) / (1 + tanh q tanh k). Exact to the last digits of small
// values; where both are large it would lose them.
struct TanhForm {
  static constexpr int kLargest = 1;
  template <class V>
  static V derivative(V, V, V y) {
    return multiply_add(-y, y, V{} + 1);
  }
  template <class V>
  static V encode(V x) {
    return tanh(x);
  }
  template <class V>
  static V combine(V q, V k) {
    return (q + k) * reciprocal(multiply_add(q, k, V{} + 1));
  }
};

// tanh(q + k) = 1 - 2 / (e^2q e^2k + 1), whose product stays below 2^122.
struct ExponentialForm {
  static constexpr int kLargest = 21;
  template <class V>
  static V encode(V x) {
    return exp(x + x);
  }
  template <class V>
  static V combine(V q, V k) {
    return 1 - 2 * reciprocal(multiply_add(q, k, V{} + 1));
  }
  // With E = e^2q e^2k: 1 - tanh^2 = 4 E / (E + 1)^2, which loses no digits where tanh is near 1.
  template <class V>
  static V derivative(V q, V k, V) {
    const V r = reciprocal(multiply_add(q, k, V{} + 1));
    return 4 * (q * k * r) * r;
  }
};

// Any magnitude, infinities too.
struct PlainForm {
  template <class V>
  static V encode(V x) {
    return x;
  }
  template <class V>
  static V combine(V q, V k) {
    return tanh(q + k);
  }
  template <class V>
  static V derivative(V q, V k, V) {
    const V x = q + k, e = exp(x < 0 ? x + x : -x - x), r = reciprocal(e + 1);
    return 4 * (e * r) * r;
  }
};

enum class FormKind { kTanh, kExponential, kPlain };

// largest: of |q| and |k|.
template <typename T>
FormKind form_for(T largest) {
  if (largest <= TanhForm::kLargest) return FormKind::kTanh;
  return largest <= ExponentialForm::kLargest ? FormKind::kExponential : FormKind::kPlain;
}

// body.template operator()<Form>(kind) for every form.
template <class Body>
inline void for_each_form(const Body& body) {
  body.template operator()<TanhForm>(FormKind::kTanh);
  body.template operator()<ExponentialForm>(FormKind::kExponential);
  body.template operator()<PlainForm>(FormKind::kPlain);
}

// The largest magnitude in rows of n features; NaN is skipped, every form carries it through.
template <typename T>
T largest_magnitude(const Rows<const T>& rows, int64_t count, int64_t n) {
  constexpr int kLanes = Simd<T>::kLanes;
  Vec<T> largest{};
  for (int64_t r = 0; r < count; ++r)
    for (int64_t i = 0; i < n; i += kLanes) {
      largest = maximum(magnitude(load_n(rows.data + r * rows.stride + i, n - i)), largest);
    }
  return reduce_max<T>(largest);
}

template <typename T>
constexpr int64_t round_to_vectors(int64_t n) {
  constexpr int kLanes = Simd<T>::kLanes;
  return (n + kLanes - 1) / kLanes * kLanes;
}

// n values, then zeros up to a whole vector, through f.
template <typename T, class F>
inline void map_padded(const T* from, int64_t n, T* to, const F& f) {
  for (int64_t i = 0; i < n; i += Simd<T>::kLanes) store(to + i, f(load_n(from + i, n - i)));
}

// Keys that pass through all queries together, encoded, in L1.
constexpr int kKeyBlock = 4;

// Padded rows: v, the encoded queries, a block of encoded keys; then a form for each query.
template <typename T>
int64_t additive_forward_workspace(const AttentionSizes& s) {
  return (1 + s.queries + kKeyBlock) * round_to_vectors<T>(s.attention) + s.queries;
}

// scores[j] = sum_a v[a] tanh(q + k[j]), all encoded and padded to width.
template <class Form, int kKeys, typename T>
inline void additive_tile(const T* v, const T* q, const T* k, int64_t width, T* scores) {
  Vec<T> acc[kKeys] = {};
  for (int64_t a = 0; a < width; a += Simd<T>::kLanes) {
    const Vec<T> va = load(v + a), qa = load(q + a);
#pragma GCC unroll 4
    for (int j = 0; j < kKeys; ++j)
      acc[j] = multiply_add(va, Form::combine(qa, load(k + j * width + a)), acc[j]);
  }
#pragma GCC unroll 4
  for (int j = 0; j < kKeys; ++j) scores[j] = reduce_add<T>(acc[j]);
}

template <typename T>
class AdditiveScores {
 public:
  explicit AdditiveScores(const AttentionForward<T>& f)
      : f_(f),
        in_(f.in),
        width_(round_to_vectors<T>(f.in.sizes.attention)),
        v_(f.workspace),
        queries_(v_ + width_),
        keys_(queries_ + f.in.sizes.queries * width_),
        largest_(keys_ + kKeyBlock * width_) {}

  void run() const {
    const AttentionSizes& s = in_.sizes;
    map_padded(in_.v, s.attention, v_, [](Vec<T> x) { return x; });
    const T largest_key = largest_magnitude(in_.keys, s.length, s.attention);
    for (int64_t t = 0; t < s.queries; ++t) {
      const T* query = in_.query.data + t * in_.query.stride;
      const T largest_query = largest_magnitude<T>({query, 0}, 1, s.attention);
      largest_[t] = largest_query > largest_key ? largest_query : largest_key;
    }
    for_each_form([&]<class Form>(FormKind kind) { run_form<Form>(kind); });
  }

 private:
  // The scores of the queries of one form.
  template <class Form>
  void run_form(FormKind kind) const {
    const AttentionSizes& s = in_.sizes;
    const auto encode = [](Vec<T> x) { return Form::encode(x); };
    bool any = false;
    for (int64_t t = 0; t < s.queries; ++t) {
      if (form_for(largest_[t]) != kind) continue;
      any = true;
      map_padded(in_.query.data + t * in_.query.stride, s.attention, queries_ + t * width_, encode);
    }
    if (!any) return;
    for (int64_t s0 = 0; s0 < s.length; s0 += kKeyBlock) {
      const int64_t count = s.length - s0 < kKeyBlock ? s.length - s0 : kKeyBlock;
      for (int64_t j = 0; j < count; ++j) encode_key<Form>(s0 + j, keys_ + j * width_);
      for (int64_t t = 0; t < s.queries; ++t)
        if (form_for(largest_[t]) == kind)
          with_count<kKeyBlock>(count, [&]<int kKeys>() {
            additive_tile<Form, kKeys>(v_, queries_ + t * width_, keys_, width_,
                                       f_.weights + t * s.source + s0);
          });
    }
  }

  // Meanwhile the key of the next block and the row that the context will read are on their way,
  // a few lines at a time: a burst of requests would only wait for itself.
  template <class Form>
  void encode_key(int64_t row, T* to) const {
    constexpr int64_t kLanes = Simd<T>::kLanes, kLine = 64 / sizeof(T);
    const AttentionSizes& s = in_.sizes;
    const T* key = in_.keys.data + row * in_.keys.stride;
    const T* next = row + kKeyBlock < s.length ? key + kKeyBlock * in_.keys.stride : key;
    const T* memory = in_.memory.data + row * in_.memory.stride;
    const int64_t share = (s.memory * kLanes + width_ - 1) / width_;
    for (int64_t i = 0, m = 0; i < s.attention; i += kLanes) {
      store(to + i, Form::encode(load_n(key + i, s.attention - i)));
      __builtin_prefetch(next + i, 0, 2);
      for (const int64_t end = m + share; m < end; m += kLine)
        if (m < s.memory) __builtin_prefetch(memory + m, 0, 2);
    }
  }

  const AttentionForward<T>& f_;
  const AttentionInputs<T>& in_;
  const int64_t width_;
  T* const v_;
  T* const queries_;
  T* const keys_;
  T* const largest_;
};

template <typename T>
void additive_forward(const AttentionForward<T>& f) {
  AdditiveScores<T>(f).run();
  finish_forward(f);
}

// A block of columns of the keys, encoded, and of their gradient.
template <typename T>
int64_t additive_backward_workspace(const AttentionSizes& s) {
  return 2 * s.length * kPanelWidth<T>;
}

// Gradients of one block of columns. tanh and its derivative are made again.
template <typename T>
class AdditiveGradients {
 public:
  AdditiveGradients(const AttentionBackward<T>& g, int64_t column)
      : g_(g),
        s_(g.in.sizes),
        column_(column),
        n_(smaller_width(s_.attention - column)),
        keys_(g.workspace),
        grad_keys_(keys_ + s_.length * kWidth) {}

  void run() {
    zero(grad_keys_, s_.length * kWidth);
    const T largest_key =
        largest_magnitude<T>({g_.in.keys.data + column_, g_.in.keys.stride}, s_.length, n_);
    for_each_form([&]<class Form>(FormKind kind) {
      bool encoded = false;
      for (int64_t t = 0; t < s_.queries; ++t) {
        const T largest_query = largest_magnitude<T>({query(t), 0}, 1, n_);
        if (form_for(largest_query > largest_key ? largest_query : largest_key) != kind) continue;
        if (!encoded) encode_keys<Form>();
        encoded = true;
        add_query<Form>(t);
      }
    });
    for (int half = 0; half < kHalves; ++half) {
      const int64_t n = n_ - half * kLanes;
      if (n <= 0) continue;
      const int64_t at = column_ + half * kLanes;
      const Vec<T> v = load_n(g_.in.v + at, n);
      for (int64_t s = 0; s < s_.length; ++s)
        store_n(g_.grad_keys + s * s_.attention + at,
                v * load(grad_keys_ + s * kWidth + half * kLanes), n);
      store_n(g_.grad_v + at, grad_v_[half], n);
    }
    zero_masked_rows(s_, g_.grad_keys, s_.attention, column_, column_ + n_);
  }

 private:
  static constexpr int kLanes = Simd<T>::kLanes, kHalves = 2, kWidth = kPanelWidth<T>;

  static int64_t smaller_width(int64_t n) { return n < kWidth ? n : kWidth; }
  const T* query(int64_t t) const { return g_.in.query.data + t * g_.in.query.stride + column_; }

  // Columns of a half; load_n gives zeros for none.
  Vec<T> half_of(const T* row, int half) const {
    return n_ > half * kLanes ? load_n(row + half * kLanes, n_ - half * kLanes) : Vec<T>{};
  }

  template <class Form>
  void encode_keys() const {
    for (int64_t s = 0; s < s_.length; ++s)
      for (int half = 0; half < kHalves; ++half) {
        const Vec<T> k = half_of(g_.in.keys.data + s * g_.in.keys.stride + column_, half);
        store(keys_ + s * kWidth + half * kLanes, Form::encode(k));
      }
  }

  template <class Form>
  void add_query(int64_t t) {
    const T* grad_scores = g_.grad_scores + t * s_.source;
    Vec<T> q[kHalves], grad_q[kHalves] = {};
    for (int half = 0; half < kHalves; ++half) q[half] = Form::encode(half_of(query(t), half));
    for (int64_t s = 0; s < s_.length; ++s) {
      const Vec<T> grad_score = broadcast(grad_scores[s]);
      for (int half = 0; half < kHalves; ++half) {
        const int64_t at = s * kWidth + half * kLanes;
        const Vec<T> k = load(keys_ + at), y = Form::combine(q[half], k);
        const Vec<T> grad = grad_score * Form::derivative(q[half], k, y);
        grad_q[half] += grad;
        grad_v_[half] = multiply_add(grad_score, y, grad_v_[half]);
        store(grad_keys_ + at, load(grad_keys_ + at) + grad);
      }
    }
    for (int half = 0; half < kHalves; ++half) {
      const int64_t n = n_ - half * kLanes, at = column_ + half * kLanes;
      if (n > 0)
        store_n(g_.grad_query + t * s_.attention + at, load_n(g_.in.v + at, n) * grad_q[half], n);
    }
  }

  const AttentionBackward<T>& g_;
  const AttentionSizes& s_;
  const int64_t column_, n_;
  T* const keys_;
  T* const grad_keys_;  // before the factor v
  Vec<T> grad_v_[kHalves] = {};
};

// One query's gradient in one block of columns.
template <class Form, typename T>
void add_query_gradient(const AttentionBackward<T>& g, int64_t t, int64_t column, int64_t n) {
  const AttentionSizes& s = g.in.sizes;
  const T* grad_scores = g.grad_scores + t * s.source;
  const Vec<T> q = Form::encode(load_n(g.in.query.data + t * g.in.query.stride + column, n));
  Vec<T> sum{};
  for (int64_t i = 0; i < s.length; ++i) {
    const Vec<T> k = Form::encode(load_n(g.in.keys.data + i * g.in.keys.stride + column, n));
    const Vec<T> y = Form::combine(q, k);
    sum += broadcast(grad_scores[i]) * Form::derivative(q, k, y);
  }
  store_n(g.grad_query + t * s.attention + column, load_n(g.in.v + column, n) * sum, n);
}

template <typename T>
void additive_grad_query(const AttentionBackward<T>& g) {
  const AttentionSizes& s = g.in.sizes;
  for (int64_t column = 0; column < s.attention; column += Simd<T>::kLanes) {
    const int64_t n =
        s.attention - column < Simd<T>::kLanes ? s.attention - column : Simd<T>::kLanes;
    const T key = largest_magnitude<T>({g.in.keys.data + column, g.in.keys.stride}, s.length, n);
    for (int64_t t = 0; t < s.queries; ++t) {
      const T* row = g.in.query.data + t * g.in.query.stride + column;
      const T query = largest_magnitude<T>({row, 0}, 1, n);
      for_each_form([&]<class Form>(FormKind kind) {
        if (form_for(query > key ? query : key) == kind) add_query_gradient<Form>(g, t, column, n);
      });
    }
  }
}

template <typename T>
void additive_grad_inputs(const AttentionBackward<T>& g, int64_t begin, int64_t end) {
  for (int64_t column = begin; column < end; column += kPanelWidth<T>)
    AdditiveGradients<T>(g, column).run();
}

}  // namespace seq2seq_ext::SEQ2SEQ_EXT_ISA
