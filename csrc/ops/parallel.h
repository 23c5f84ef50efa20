// Threads for the ops: a team for a whole sequence, and large products in parallel.
// Threads are OpenMP's, the pool torch itself uses, so the two never compete.
#pragma once

#include <ATen/Parallel.h>
#include <ATen/ops/empty.h>

#include <algorithm>
#include <cstdint>
#include <memory>
#include <vector>

#include "kernels/gemm.h"
#include "kernels/run_team.h"

namespace seq2seq_ext {

// Threads an op may use now: torch's setting; 1 inside a parallel region, and 1 in a
// process forked after OpenMP started, where its pool is gone and a region would hang.
int max_threads();

// body(i) for every i < count, over all threads; grain: the fewest a thread is worth.
template <class Body>
void parallel(int64_t count, int64_t grain, const Body& body) {
  const auto run = [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) body(i);
  };
  if (max_threads() == 1)
    run(0, count);
  else
    at::parallel_for(0, count, grain, run);
}

// Rows of A as multiply reads them: encoded over all threads where the weights want that. Each
// a[m] is T [depth].
template <typename T>
class ReadyRows {
 public:
  ReadyRows(const GemmKernels<T>& kernels, const Gemm<T>& gemm, int64_t rows) : rows_(gemm.a) {
    if (!kernels.encodes) return;
    constexpr int64_t kValuesPerTask = 16384;
    const int64_t bytes = kernels.row_bytes(gemm.depth);
    encoded_ = at::empty({rows * bytes}, at::kByte);
    pointers_.resize(rows);
    char* to = static_cast<char*>(encoded_.data_ptr());
    for (int64_t row = 0; row < rows; ++row) pointers_[row] = to + row * bytes;
    rows_ = pointers_.data();
    parallel((rows + kBlock - 1) / kBlock, 1 + kValuesPerTask / (kBlock * gemm.depth + 1),
             [&](int64_t block) {
               const int64_t begin = block * kBlock;
               encode(kernels, gemm, begin, std::min(rows, begin + kBlock), to + begin * bytes);
             });
  }
  const void* const* data() const { return rows_; }

 private:
  static constexpr int64_t kBlock = 16;

  // Columns of a matrix are turned first, a block of them at a time: neighbours share their lines.
  static void encode(const GemmKernels<T>& kernels, const Gemm<T>& gemm, int64_t begin, int64_t end,
                     char* to) {
    const T* rows = static_cast<const T*>(gemm.a[begin]);
    const int64_t bytes = kernels.row_bytes(gemm.depth);
    std::vector<T> turned(gemm.a_stride == 1 ? 0 : (end - begin) * gemm.depth);
    if (gemm.a_stride != 1)
      kernels.turn(rows, gemm.a_stride, end - begin, gemm.depth, turned.data());
    for (int64_t row = begin; row < end; ++row)
      kernels.encode(gemm.a_stride == 1 ? static_cast<const T*>(gemm.a[row])
                                        : turned.data() + (row - begin) * gemm.depth,
                     1, gemm.depth, to + (row - begin) * bytes);
  }

  const void* const* rows_;
  at::Tensor encoded_;
  std::vector<const void*> pointers_;
};

// gemm.panels = the panels of b; rows of c = a b, over all threads.
template <typename T>
void parallel_multiply(const GemmKernels<T>& kernels, Gemm<T> gemm, int64_t rows) {
  const ReadyRows<T> ready(kernels, gemm, rows);
  gemm.a = ready.data();
  const int64_t panels = (gemm.columns + kernels.panel_width - 1) / kernels.panel_width;
  // Each thread takes a rectangle of the product, as few and as long as can be: what multiply
  // does to rows of A before it reads them is paid once for all panels of its call.
  constexpr int64_t kFewestRows = 192, kFewestFlops = 1'000'000;
  const int64_t flops = 2 * gemm.depth * gemm.columns * rows;
  const int64_t parts = std::min<int64_t>(max_threads(), 1 + flops / kFewestFlops);
  int64_t row_parts = std::clamp<int64_t>(rows / kFewestRows, 1, parts);
  while (parts % row_parts) --row_parts;
  const int panel_parts = static_cast<int>(parts / row_parts);
  parallel(parts, 1, [&](int64_t part) {
    const Share r =
        share_of(rows, static_cast<int>(part / panel_parts), static_cast<int>(row_parts));
    const Share p = share_of(panels, static_cast<int>(part % panel_parts), panel_parts);
    kernels.multiply(gemm, r.begin, r.end, p.begin, p.end);
  });
}

}  // namespace seq2seq_ext
