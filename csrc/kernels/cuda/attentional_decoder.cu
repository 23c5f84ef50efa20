#include "attentional_decoder.h"
#include "recurrent_steps.cuh"

namespace seq2seq_ext::cuda {

namespace {

template <typename T>
__device__ T* row_of(const StepRows<T>& rows, int64_t i) {
  return rows.data ? rows.data + i * rows.stride : nullptr;
}

// A block has a panel of 8 units, with all their gates, and a tile of rows. A Step has kGates,
// at, input and finish(row, unit, totals by gate).
template <class Math, class Step>
struct ProductKernel {
  using T = typename Math::Value;
  using Shape = PlainShape<Math>;
  using Sums = StepSums<Shape, Step::kGates>;
  // Two blocks leave 128 registers a thread; the sums of MultiplyAdds need more.
  static constexpr int kThreads = kStepThreads, kBlocksPerSm = kStepTiles<Math>;
  Step step;
  int64_t units;
  int gates;
  bool aligned;

  __device__ void operator()(char* shared) const {
    const int64_t panel = block_index() % panels_of(units);
    const int64_t first = block_index() / panels_of(units) * Shape::kRows;
    const int64_t active = step.at.active[step.at.step], depth = step.input.depth;
    if (first >= active) return;
    const Sums sums{reinterpret_cast<typename Math::Sum*>(shared)};
    const T* const weights = step.input.panels + panel * panel_size<T>(gates, depth);
    multiply_step(StepProduct<T>{depth, gates, weights, aligned}, sums, [&](int r) {
      return first + r < active ? row_of(step.input.rows, step.at.rows[first + r]) : nullptr;
    });
    for_each_unit<Shape>([&](int r, int, int u) {
      const int64_t unit = panel * kPanelRows + u;
      if (first + r >= active || unit >= units) return;
      Acc<T> totals[Step::kGates];
#pragma unroll
      for (int k = 0; k < Step::kGates; ++k)
        totals[k] = k < gates ? sums.total(r, k * kPanelRows + u) : Acc<T>(0);
      step.finish(step.at.rows[first + r], unit, totals);
    });
  }
};

template <typename T, class Step>
void launch_product(const Step& step, int64_t units, int64_t gates, Stream stream) {
  const bool aligned = is_aligned(step.input.rows.data, step.input.rows.stride);
  with_math<T>(step.at.tf32, [&]<class Math>() {
    using Kernel = ProductKernel<Math, Step>;
    launch(Kernel{step, units, static_cast<int>(gates), aligned},
           panels_of(units) * divide_up(step.at.batch, Kernel::Shape::kRows),
           Kernel::Sums::kSize * sizeof(typename Math::Sum), stream);
  });
}

template <typename T>
struct Cells : CellStep<T> {
  static constexpr int kGates = LstmCell::kGates;

  __device__ void finish(int64_t i, int64_t unit, const Acc<T> (&totals)[kGates]) const {
    with_cell(this->cell, [&]<class Cell>() { finish_cell<Cell>(i, unit, totals); });
  }

 private:
  template <class Cell>
  __device__ void finish_cell(int64_t i, int64_t unit, const Acc<T> (&totals)[kGates]) const {
    using A = Acc<T>;
    const int64_t hidden = this->hidden;
    const A* const addends = row_of(this->addends, i) + unit;
    A x[Cell::kGates], h[Cell::kGates], saved[Cell::kSaved], c = 0, h_prev = 0;
#pragma unroll
    for (int k = 0; k < Cell::kGates; ++k) x[k] = totals[k] + addends[k * hidden], h[k] = 0;
    if constexpr (Cell::kSplit)
      h[Cell::kGates - 1] = totals[Cell::kGates] + addends[Cell::kGates * hidden];
    if (Cell::kHasCell) c = row_of(this->c_prev, i)[unit];
    if (Cell::kReadsState) h_prev = row_of(this->h_prev, i)[unit];
    const A state = Cell::template forward<A>(x, h, h_prev, c, saved);
    A* const kept = row_of(this->saved, i) + unit;
#pragma unroll
    for (int k = 0; k < Cell::kSaved; ++k) kept[k * hidden] = saved[k];
    kept[Cell::kSaved * hidden] = state;
    const A* const mask = row_of(this->mask, i);
    row_of(this->next, i)[unit] = from_acc<T>(state);
    row_of(this->up, i)[unit] = from_acc<T>(mask ? mask[unit] * state : state);
  }
};

template <typename T>
struct Combine : CombineStep<T> {
  static constexpr int kGates = 1;

  __device__ void finish(int64_t i, int64_t unit, const Acc<T> (&totals)[1]) const {
    const Acc<T> vector = tanh(totals[0]);
    const Acc<T>* const mask = row_of(this->mask, i);
    const Acc<T> output = mask ? mask[unit] * vector : vector;
    row_of(this->vector, i)[unit] = vector;
    row_of(this->output, i)[unit] = output;
    row_of(this->next, i)[unit] = from_acc<T>(output);
  }
};

template <typename T>
struct Product : ProductStep<T> {
  static constexpr int kGates = 1;

  __device__ void finish(int64_t i, int64_t unit, const Acc<T> (&totals)[1]) const {
    const bool is_left = unit < this->split, adds = is_left ? this->adds_left : this->adds_right;
    Acc<T>* const to =
        is_left ? row_of(this->left, i) + unit : row_of(this->right, i) + unit - this->split;
    *to = adds ? *to + totals[0] : totals[0];
  }
};

// A thread for each column of each row that runs. A Step has at, columns() and run(row, column).
template <class Step>
struct ColumnsKernel {
  static constexpr int kThreads = 256, kBlocksPerSm = 4;
  Step step;

  __device__ void operator()(char*) const {
    const int64_t n = block_index() * kThreads + thread_index();
    const int64_t b = n / step.columns();
    if (b < step.at.active[step.at.step]) step.run(step.at.rows[b], n % step.columns());
  }
};

template <class Step>
void launch_columns(const Step& step, int64_t columns, Stream stream) {
  using Kernel = ColumnsKernel<Step>;
  launch(Kernel{step}, divide_up(step.at.batch * columns, Kernel::kThreads), 0, stream);
}

template <typename T>
struct Round : RoundStep<T> {
  __device__ int64_t columns() const { return RoundStep<T>::columns; }
  __device__ void run(int64_t i, int64_t column) const {
    row_of(this->to, i)[column] = from_acc<T>(row_of(this->from, i)[column]);
  }
};

template <typename T>
struct VectorGradient : VectorGradientStep<T> {
  __device__ int64_t columns() const { return this->hidden; }
  __device__ void run(int64_t i, int64_t unit) const {
    const Acc<T>* const mask = row_of(this->mask, i);
    const Acc<T> vector = row_of(this->vector, i)[unit];
    Acc<T> grad = row_of(this->grad_output, i)[unit] + row_of(this->grad_fed, i)[unit];
    if (mask) grad *= mask[unit];
    row_of(this->grad, i)[unit] = from_acc<T>(grad * (1 - vector * vector));
  }
};

template <typename T>
struct CellsGradient : CellGradientStep<T> {
  __device__ int64_t columns() const { return this->hidden; }
  __device__ void run(int64_t i, int64_t unit) const {
    with_cell(this->cell, [&]<class Cell>() { run_cell<Cell>(i, unit); });
  }

 private:
  template <class Cell>
  __device__ void run_cell(int64_t i, int64_t unit) const {
    using A = Acc<T>;
    const int64_t hidden = this->hidden;
    const A* const mask = row_of(this->mask, i);
    const A* const beside = row_of(this->beside, i);
    A* const grad_h = row_of(this->grad_h, i) + unit;
    CellGradient<Cell, A> g{};
#pragma unroll
    for (int k = 0; k < Cell::kSaved; ++k) g.saved[k] = row_of(this->saved, i)[k * hidden + unit];
    A above = row_of(this->above, i)[unit];
    if (beside) above += beside[unit];
    g.grad_h = *grad_h + (mask ? mask[unit] * above : above);
    if (Cell::kReadsState) g.h_prev = row_of(this->h_prev, i)[unit];
    if (Cell::kHasCell) {
      g.c_prev = row_of(this->c_prev, i)[unit];
      g.grad_c = row_of(this->grad_c, i)[unit];
    }
    Cell::template backward<A>(g);
    T* const grads = row_of(this->grad_gates, i) + unit;
#pragma unroll
    for (int k = 0; k < Cell::kGates; ++k) grads[k * hidden] = from_acc<T>(g.grad_x[k]);
    if (Cell::kSplit) grads[Cell::kGates * hidden] = from_acc<T>(g.grad_gate_h[Cell::kGates - 1]);
    *grad_h = Cell::kReadsState ? g.grad_h_prev : A(0);
    if (Cell::kHasCell) row_of(this->grad_c, i)[unit] = g.grad_c;
  }
};

}  // namespace

template <typename T>
int64_t step_panels_size(int64_t gates, int64_t units, int64_t depth) {
  return panels_of(units) * panel_size<T>(gates, depth);
}

template <typename T>
void pack_step_panels(const StepWeight<T>& w, T* panels, Stream stream) {
  pack_panels<T>({w.data, w.row_stride, w.depth_stride, w.gates, w.units, w.depth}, panels, stream);
}

template <typename T>
void cell_step(const CellStep<T>& in, Stream stream) {
  const CellTraits traits = cell_traits(in.cell);
  launch_product<T>(Cells<T>{in}, in.hidden, traits.gates + traits.split_gates, stream);
}

template <typename T>
void combine_step(const CombineStep<T>& in, Stream stream) {
  launch_product<T>(Combine<T>{in}, in.hidden, 1, stream);
}

template <typename T>
void product_step(const ProductStep<T>& in, Stream stream) {
  launch_product<T>(Product<T>{in}, in.columns, 1, stream);
}

template <typename T>
void round_step(const RoundStep<T>& in, Stream stream) {
  launch_columns(Round<T>{in}, in.columns, stream);
}

template <typename T>
void vector_gradient_step(const VectorGradientStep<T>& in, Stream stream) {
  launch_columns(VectorGradient<T>{in}, in.hidden, stream);
}

template <typename T>
void cell_gradient_step(const CellGradientStep<T>& in, Stream stream) {
  launch_columns(CellsGradient<T>{in}, in.hidden, stream);
}

#define SEQ2SEQ_EXT_DECODER(T)                                              \
  template int64_t step_panels_size<T>(int64_t, int64_t, int64_t);          \
  template void pack_step_panels(const StepWeight<T>&, T*, Stream);         \
  template void cell_step(const CellStep<T>&, Stream);                      \
  template void combine_step(const CombineStep<T>&, Stream);                \
  template void product_step(const ProductStep<T>&, Stream);                \
  template void round_step(const RoundStep<T>&, Stream);                    \
  template void vector_gradient_step(const VectorGradientStep<T>&, Stream); \
  template void cell_gradient_step(const CellGradientStep<T>&, Stream);
SEQ2SEQ_EXT_DECODER(float)
SEQ2SEQ_EXT_DECODER(double)
SEQ2SEQ_EXT_DECODER(Bfloat16)
SEQ2SEQ_EXT_DECODER(Float16)

}  // namespace seq2seq_ext::cuda
