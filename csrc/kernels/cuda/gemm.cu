#include "gemm_tile.cuh"

namespace seq2seq_ext::cuda {

namespace {

template <class Math>
struct GemmKernel {
  using T = typename Math::Value;
  using Tile = GemmTile<Math>;
  // Two blocks leave 128 registers a thread; the sums of double need more.
  static constexpr int kThreads = kGemmThreads, kBlocksPerSm = sizeof(T) == 8 ? 1 : 2;
  Gemm<T> in;
  void* c;
  bool wide, aligned;

  __device__ void operator()(char* shared) const {
    const int64_t tiles = divide_up(in.rows, Tile::kRows);
    const int64_t row = block_index() % tiles * Tile::kRows;
    const int64_t column = block_index() / tiles * Tile::kColumns;
    Tile tile(in, aligned, row, column, shared);
    tile.multiply();
    tile.for_each([&](int r, int j, Acc<T> sum) {
      const int64_t m = row + r, n = column + j;
      if (m >= in.rows || n >= in.columns) return;
      if (in.bias) sum += in.bias[n];
      if (wide)
        static_cast<Acc<T>*>(c)[m * in.columns + n] = sum;
      else
        static_cast<T*>(c)[m * in.columns + n] = from_acc<T>(sum);
    });
  }
};

}  // namespace

template <typename T>
void gemm(const Gemm<T>& in, void* c, bool wide, bool tf32, Stream stream) {
  with_math<T>(tf32, [&]<class Math>() {
    using Tile = GemmTile<Math>;
    launch(GemmKernel<Math>{in, c, wide, is_aligned(in)},
           divide_up(in.rows, Tile::kRows) * divide_up(in.columns, Tile::kColumns), Tile::kShared,
           stream);
  });
}

template void gemm(const Gemm<float>&, void*, bool, bool, Stream);
template void gemm(const Gemm<double>&, void*, bool, bool, Stream);
template void gemm(const Gemm<Bfloat16>&, void*, bool, bool, Stream);
template void gemm(const Gemm<Float16>&, void*, bool, bool, Stream);

}  // namespace seq2seq_ext::cuda
