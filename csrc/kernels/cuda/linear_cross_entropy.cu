#include "device.cuh"
#include "linear_cross_entropy.h"

namespace seq2seq_ext::cuda {

namespace {

template <typename T>
struct LossKernel {
  // Four blocks leave 64 registers a thread; double's exp needs more.
  static constexpr int kThreads = 256, kBlocksPerSm = sizeof(T) == 8 ? 2 : 4;
  static constexpr int kWarps = kThreads / kWarp;
  LossRows<T> in;

  __device__ void operator()(char* shared) const {
    if (in.ignored && in.ignored[block_index()]) return ignore(block_index());
    using A = Acc<T>;
    double* const slots = reinterpret_cast<double*>(shared);
    const int64_t row = block_index(), n = in.vocabulary, target = in.target[row];
    const A* const logits = in.logits + row * n;
    const bool is_there = target >= 0 && target < n;
    const double likely = is_there ? static_cast<double>(logits[target]) : NAN;
    A max = -static_cast<A>(INFINITY);
    for (int64_t i = thread_index(); i < n; i += kThreads) max = logits[i] > max ? logits[i] : max;
    max = block_max(max, slots);
    double sum_exp = 0, sum = 0;
    for (int64_t i = thread_index(); i < n; i += kThreads) {
      sum_exp += exp(logits[i] - max);
      sum += logits[i];
    }
    const double log_sum_exp = max + log(block_sum(sum_exp, slots)), e = in.label_smoothing;
    const double mean = e == 0 ? 0 : e * block_sum(sum, slots) / n;
    if (thread_index() == 0) in.losses[row] = log_sum_exp - (1 - e) * likely - mean;
    if (in.gradients) differentiate(row, is_there ? log_sum_exp : NAN);
  }

 private:
  __device__ void ignore(int64_t row) const {
    if (thread_index() == 0) in.losses[row] = 0;
    if (!in.gradients) return;
    for (int64_t i = thread_index(); i < in.vocabulary; i += kThreads)
      in.gradients[row * in.vocabulary + i] = from_acc<T>(0);
  }

  __device__ void differentiate(int64_t row, double log_sum_exp) const {
    using A = Acc<T>;
    const int64_t n = in.vocabulary, target = in.target[row];
    const bool is_finite = log_sum_exp - log_sum_exp == 0;
    const A lse = is_finite ? log_sum_exp : NAN, uniform = in.label_smoothing / n;
    const A on_target = 1 - in.label_smoothing;
    for (int64_t i = thread_index(); i < n; i += kThreads) {
      const A gradient = exp(in.logits[row * n + i] - lse) - uniform;
      in.gradients[row * n + i] = from_acc<T>(i == target ? gradient - on_target : gradient);
    }
  }

  // Of all threads, for all of them. slots: one a warp.
  __device__ static double block_max(double value, double* slots) {
    share(warp_max(value), slots);
    for (int w = 0; w < kWarps; ++w) value = slots[w] > value ? slots[w] : value;
    return value;
  }
  __device__ static double block_sum(double value, double* slots) {
    share(warp_sum(value), slots);
    double sum = 0;
    for (int w = 0; w < kWarps; ++w) sum += slots[w];
    return sum;
  }
  __device__ static void share(double of_warp, double* slots) {
    sync_block();  // everybody has read what was shared before
    if (lane_index() == 0) slots[warp_index()] = of_warp;
    sync_block();
  }
};

}  // namespace

template <typename T>
void loss_rows(const LossRows<T>& in, Stream stream) {
  using Kernel = LossKernel<T>;
  launch(Kernel{in}, in.rows, Kernel::kWarps * sizeof(double), stream);
}

template void loss_rows(const LossRows<float>&, Stream);
template void loss_rows(const LossRows<double>&, Stream);
template void loss_rows(const LossRows<Bfloat16>&, Stream);
template void loss_rows(const LossRows<Float16>&, Stream);

}  // namespace seq2seq_ext::cuda
