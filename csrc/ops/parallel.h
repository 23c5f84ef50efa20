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
    const auto row_of = [&](int64_t row) { return static_cast<const T*>(gemm.a[row]); };
    const int64_t bytes = kernels.row_bytes(gemm.depth);
    std::vector<T> turned(gemm.a_stride == 1 ? 0 : (end - begin) * gemm.depth);
    if (gemm.a_stride != 1)
      for (int64_t k = 0; k < gemm.depth; ++k)
        for (int64_t row = begin; row < end; ++row)
          turned[(row - begin) * gemm.depth + k] = row_of(row)[k * gemm.a_stride];
    for (int64_t row = begin; row < end; ++row)
      kernels.encode(gemm.a_stride == 1 ? row_of(row) : turned.data() + (row - begin) * gemm.depth,
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
  constexpr int64_t kRowBlock = 192;
  const int64_t row_blocks = (rows + kRowBlock - 1) / kRowBlock;
  // A task is one panel over one block of rows; neighbours share the operand that is larger.
  const bool share_rows = rows > gemm.columns;
  const int64_t task_flops =
      2 * gemm.depth * kernels.panel_width * (rows < kRowBlock ? rows : kRowBlock);
  const int64_t grain = 1 + 1'000'000 / (task_flops + 1);
  parallel(panels * row_blocks, grain, [&](int64_t task) {
    const int64_t panel = share_rows ? task % panels : task / row_blocks;
    const int64_t block = share_rows ? task / panels : task % row_blocks;
    const int64_t last = (block + 1) * kRowBlock;
    kernels.multiply(gemm, block * kRowBlock, last < rows ? last : rows, panel, panel + 1);
  });
}

}  // namespace seq2seq_ext
