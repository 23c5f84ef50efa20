// Additive and dot attention. Forward is one kernel: a block takes some queries of a sentence
// (its beams share the keys it reads), makes their scores, the softmax and the context. Backward
// is three: the gradients of the scores, then two of sums down columns.
#include "attention_tiles.cuh"

namespace seq2seq_ext::cuda {

namespace {

// Two blocks of 256 threads leave 128 registers a thread: enough, but for double.
template <typename T>
constexpr int kBlocks = sizeof(Acc<T>) == 8 ? 1 : 2;

template <typename T>
__device__ int64_t length_of(const AttentionBatch<T>& in, int64_t b) {
  const int64_t source = in.sizes.source;
  if (!in.lengths) return source;
  const int64_t length = in.lengths[b];
  return length < 0 ? 0 : smaller(length, source);
}

// The kRows queries or keys of a block: some of the n of sentence b.
struct Place {
  int64_t b, first;
  int rows;

  __device__ Place(int64_t block, int64_t n) {
    const int64_t tiles = divide_up(n, kRows);
    b = block / tiles;
    first = block % tiles * kRows;
    rows = smaller(kRows, n - first);
  }
};

// A row of scores becomes its softmax, zero from n on; a warp's work. weights may be scores.
template <typename T>
__device__ void softmax(Acc<T>* scores, Acc<T> scale, int64_t n, int64_t size, T* weights) {
  using A = Acc<T>;
  const int lane = lane_index();
  A top = -INFINITY;
  for (int64_t s = lane; s < n; s += kWarp) {
    const A score = scores[s] *= scale;
    top = score > top ? score : top;
  }
  top = warp_max(top);
  A sum = 0;
  for (int64_t s = lane; s < n; s += kWarp) sum += scores[s] = exp(scores[s] - top);
  sum = warp_sum(sum);
  for (int64_t s = lane; s < size; s += kWarp) {
    const A weight = s < n ? scores[s] / sum : A(0);
    scores[s] = weight;
    weights[s] = from_acc<T>(weight);
  }
}

template <class Term, typename T>
struct ForwardKernel {
  static constexpr int kThreads = kAttentionThreads, kBlocksPerSm = kBlocks<T>;
  AttentionBatch<T> in;
  AttentionOutputs<T> out;

  __device__ void operator()(char* shared_bytes) const {
    Acc<T>* const shared = reinterpret_cast<Acc<T>*>(shared_bytes);
    const AttentionSizes& s = in.sizes;
    const Place at(block_index(), s.queries);
    const int64_t length = length_of(in, at.b), row = at.b * s.queries + at.first;
    Acc<T>* const scores = out.scores + row * s.source;
    const T* const query =
        in.query.data + at.b * in.query.batch_stride + at.first * in.query.row_stride;
    score_tile<Term>(ScoreTile<T>{query, in.query.row_stride, at.rows,
                                  in.keys.data + at.b * in.keys.batch_stride, in.keys.row_stride,
                                  length, s.attention, in.v, scores, s.source},
                     shared);
    for (int r = warp_index(); r < at.rows; r += kAttentionWarps)
      softmax(scores + r * s.source, static_cast<Acc<T>>(in.scale), length, s.source,
              out.weights + (row + r) * s.source);
    sync_block();
    column_tile<Product>(
        ColumnTile<T>{scores, s.source, 1, nullptr, 0, at.rows,
                      in.memory.data + at.b * in.memory.batch_stride, in.memory.row_stride, length,
                      0, s.memory, nullptr, 1, out.context + row * s.memory, s.memory, nullptr},
        shared);
  }
};

// grad_scores = w (g - sum w g), with g = grad_weights + grad_context . memory.
template <typename T>
struct GradScoresKernel {
  static constexpr int kThreads = kAttentionThreads, kBlocksPerSm = kBlocks<T>;
  AttentionBatch<T> in;
  AttentionGradients<T> g;

  __device__ void operator()(char* shared_bytes) const {
    using A = Acc<T>;
    const AttentionSizes& s = in.sizes;
    const Place at(block_index(), s.queries);
    const int64_t length = length_of(in, at.b), row = at.b * s.queries + at.first;
    A* const scores = g.grad_scores + row * s.source;
    const auto& context = g.grad_context;
    score_tile<Product>(
        ScoreTile<T>{context.data + at.b * context.batch_stride + at.first * context.row_stride,
                     context.row_stride, at.rows, in.memory.data + at.b * in.memory.batch_stride,
                     in.memory.row_stride, length, s.memory, nullptr, scores, s.source},
        reinterpret_cast<A*>(shared_bytes));
    for (int r = warp_index(); r < at.rows; r += kAttentionWarps) {
      A* const grads = scores + r * s.source;
      const A* const weights = g.weights + (row + r) * s.source;
      const auto& direct = g.grad_weights;
      const T* const grad_weights = direct.data ? direct.data + at.b * direct.batch_stride +
                                                      (at.first + r) * direct.row_stride
                                                : nullptr;
      A sum = 0;
      for (int64_t i = lane_index(); i < length; i += kWarp) {
        if (grad_weights) grads[i] += to_acc(grad_weights[i]);
        sum = fused(weights[i], grads[i], sum);
      }
      sum = warp_sum(sum);
      // The gradients sum to zero: where keys are alike, what rounding has left of the sum would
      // pass for grad_query.
      A rest = 0;
      for (int64_t i = lane_index(); i < length; i += kWarp)
        rest = fused(weights[i], grads[i] -= sum, rest);
      rest = warp_sum(rest);
      for (int64_t i = lane_index(); i < s.source; i += kWarp)
        grads[i] = i < length ? weights[i] * (grads[i] - rest) : A(0);
    }
  }
};

// Sums down columns for the rows of one side, kAttentionThreads columns a block.
template <class Term, typename T>
struct ColumnKernel {
  static constexpr int kThreads = kAttentionThreads, kBlocksPerSm = kBlocks<T>;
  AttentionBatch<T> in;
  const Acc<T>* c;          // [B, T, S]
  bool over_keys;           // the rows are keys; else queries
  BatchRows<const T> x, y;  // of the rows' side, of the other
  int64_t columns;
  const T* v;
  Acc<T> scale;
  T* out;          // [B, rows, columns]
  Acc<T>* grad_v;  // [B, row tiles, columns] or null

  __device__ void operator()(char* shared_bytes) const {
    const AttentionSizes& s = in.sizes;
    const int64_t blocks = divide_up(columns, kAttentionThreads);
    const int64_t begin = block_index() % blocks * kAttentionThreads;
    const int64_t tile_index = block_index() / blocks, n = over_keys ? s.source : s.queries;
    const Place at(tile_index, n);
    const int64_t length = length_of(in, at.b);
    const Acc<T>* const sentence = c + at.b * s.queries * s.source;
    ColumnTile<T> tile{};
    tile.c = sentence + at.first * (over_keys ? 1 : s.source);
    tile.row_stride = over_keys ? 1 : s.source;
    tile.depth_stride = over_keys ? s.source : 1;
    tile.x = x.data ? x.data + at.b * x.batch_stride + at.first * x.row_stride : nullptr;
    tile.x_stride = x.row_stride;
    tile.rows = at.rows;
    tile.y = y.data + at.b * y.batch_stride;
    tile.y_stride = y.row_stride;
    tile.depth = over_keys ? s.queries : length;
    tile.begin = begin;
    tile.end = smaller(begin + kAttentionThreads, columns);
    tile.v = v;
    tile.scale = scale;
    tile.out = out + (at.b * n + at.first) * columns;
    tile.out_stride = columns;
    tile.grad_v = grad_v ? grad_v + tile_index * columns : nullptr;
    if (over_keys) {
      // Masked keys may hold anything, and must not be read.
      for (int r = 0; r < tile.rows; ++r)
        if (at.first + r >= length)
          for (int64_t j = begin + thread_index(); j < tile.end; j += kAttentionThreads)
            tile.out[r * columns + j] = from_acc<T>(0);
      tile.rows = length <= at.first ? 0 : smaller(tile.rows, length - at.first);
      if (tile.rows == 0) return;
    }
    column_tile<Term>(tile, reinterpret_cast<Acc<T>*>(shared_bytes));
  }
};

template <typename T>
constexpr int64_t kSharedBytes = kAttentionShared * sizeof(Acc<T>);

template <class Term, typename T>
void sum_columns(const ColumnKernel<Term, T>& kernel, Stream stream) {
  const AttentionSizes& s = kernel.in.sizes;
  const int64_t rows = kernel.over_keys ? s.source : s.queries;
  launch(kernel,
         kernel.in.batch * divide_up(rows, kRows) * divide_up(kernel.columns, kAttentionThreads),
         kSharedBytes<T>, stream);
}

template <class Term, typename T>
void differentiate_query(const AttentionBatch<T>& in, const AttentionGradients<T>& g,
                         Stream stream) {
  const AttentionSizes& s = in.sizes;
  launch(GradScoresKernel<T>{in, g}, in.batch * divide_up(s.queries, kRows), kSharedBytes<T>,
         stream);
  sum_columns(ColumnKernel<Term, T>{in, g.grad_scores, false, in.query, in.keys, s.attention, in.v,
                                    static_cast<Acc<T>>(in.scale), g.grad_query, g.grad_v},
              stream);
}

template <class Term, typename T>
void differentiate_memory(const AttentionBatch<T>& in, const AttentionGradients<T>& g,
                          Stream stream) {
  const AttentionSizes& s = in.sizes;
  sum_columns(
      ColumnKernel<Product, T>{
          in, g.weights, true, {}, g.grad_context, s.memory, nullptr, 1, g.grad_memory, nullptr},
      stream);
  sum_columns(ColumnKernel<Term, T>{in, g.grad_scores, true, in.keys, in.query, s.attention, in.v,
                                    static_cast<Acc<T>>(in.scale), g.grad_keys, nullptr},
              stream);
}

}  // namespace

template <typename T>
void attention_forward(const AttentionBatch<T>& in, const AttentionOutputs<T>& out, Stream stream) {
  const int64_t blocks = in.batch * divide_up(in.sizes.queries, kRows);
  if (in.v)
    launch(ForwardKernel<TanhScore, T>{in, out}, blocks, kSharedBytes<T>, stream);
  else
    launch(ForwardKernel<Product, T>{in, out}, blocks, kSharedBytes<T>, stream);
}

template <typename T>
void attention_query_gradient(const AttentionBatch<T>& in, const AttentionGradients<T>& g,
                              Stream stream) {
  if (in.v)
    differentiate_query<TanhScore>(in, g, stream);
  else
    differentiate_query<Product>(in, g, stream);
}

template <typename T>
void attention_memory_gradient(const AttentionBatch<T>& in, const AttentionGradients<T>& g,
                               Stream stream) {
  if (in.v)
    differentiate_memory<TanhScore>(in, g, stream);
  else
    differentiate_memory<Product>(in, g, stream);
}

#define SEQ2SEQ_EXT_ATTENTION(T)                                                                  \
  template void attention_forward(const AttentionBatch<T>&, const AttentionOutputs<T>&, Stream);  \
  template void attention_query_gradient(const AttentionBatch<T>&, const AttentionGradients<T>&,  \
                                         Stream);                                                 \
  template void attention_memory_gradient(const AttentionBatch<T>&, const AttentionGradients<T>&, \
                                          Stream);
SEQ2SEQ_EXT_ATTENTION(float)
SEQ2SEQ_EXT_ATTENTION(double)
SEQ2SEQ_EXT_ATTENTION(Bfloat16)
SEQ2SEQ_EXT_ATTENTION(Float16)

}  // namespace seq2seq_ext::cuda
