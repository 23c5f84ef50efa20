// Backward through time. A stage is a step, or two with a projection: the gradient of a state is
// the product of the gates' gradients of the step after it with W_hh; it passes W_hr, and the
// cell's equations make gradients of gates of it. One stage more ends at h_0. The weights'
// gradients are large products afterwards, made by the caller of what is packed here.
#include "recurrent_steps.cuh"

namespace seq2seq_ext::cuda {

namespace {

template <class ShapeOfKernel>
struct BackwardKernel {
  using Shape = ShapeOfKernel;
  using Math = typename Shape::Math;
  using T = typename Math::Value;
  using A = Acc<T>;
  using Sums = StepSums<Shape, 1>;
  using Held = HeldPanels<Shape, 1>;
  // Two blocks leave 128 registers a thread; held panels need more.
  static constexpr int kThreads = kStepThreads, kBlocksPerSm = Shape::kKept ? 1 : 2;
  RecurrentBackward<T> in;
  CellTraits traits;
  PackedBackwardWeights at;
  bool aligned_gates, aligned_projected;
  StepGrid grid;

  __device__ void operator()(char* shared) const { run_stages(*this, shared); }

  __device__ unsigned* counters() const { return in.counters; }
  __host__ __device__ int main_gates() const { return 1; }
  __host__ __device__ int main_slabs() const {
    return static_cast<int>(divide_up(gate_rows(), kSlab<T>));
  }
  __device__ const T* main_panel(int64_t d, int64_t p) const {
    const int64_t size = panel_size<T>(1, gate_rows());
    return p < panels_of(in.sizes.output) ? packed(d, at.weight_hh) + p * size : nullptr;
  }
  __device__ int64_t stages() const { return in.sizes.projected ? 2 : 1; }
  __device__ int64_t rows_of(int64_t stage) const { return rows_at(step_of(stage)); }

  __device__ void run(int64_t stage, int64_t d, int64_t b, const Held& held,
                      const Sums& sums) const {
    if constexpr (Shape::kKept > 0)
      collect(step_of(stage), d, b, held, sums);
    else if (stage % stages() == 1)
      unproject(step_of(stage), d, b, sums);
    else if (held.rest[0])
      collect(step_of(stage), d, b, held, sums);
  }

 private:
  __host__ __device__ int64_t gate_rows() const { return traits.gates * in.sizes.hidden; }
  // -1 is h_0.
  __device__ int64_t step_of(int64_t stage) const { return in.ragged.steps - 1 - stage / stages(); }
  __device__ int64_t rows_at(int64_t s) const {
    return s >= in.ragged.steps ? 0 : in.ragged.active[s < 0 ? 0 : s];
  }
  __device__ const T* packed(int64_t d, int64_t bytes) const {
    return reinterpret_cast<const T*>(in.packed + d * at.size + bytes);
  }
  __device__ int64_t packed_row(int64_t d, int64_t s, int64_t b) const {
    return d * in.capacity + in.ragged.offsets[s] + b;
  }
  __device__ const T* saved_row(int64_t d, int64_t s, int64_t b) const {
    return in.saved +
           (d * in.saved_rows + in.ragged.offsets[s] + b) * traits.saved * in.sizes.hidden;
  }

  // The whole gradient of the state after step s. A row comes in at its last step, with the
  // gradient of h_n.
  __device__ void collect(int64_t s, int64_t d, int64_t first, const Held& held,
                          const Sums& sums) const {
    const StepPlace<T> place{in.ragged, d};
    const int64_t rows = rows_at(s), after = s < 0 ? rows : rows_at(s + 1);
    const StepTile<Shape> tile(gate_rows(), aligned_gates, [&](int r) {
      const int64_t b = first + r;
      return b < after ? in.grad_gates_h + packed_row(d, s + 1, b) * gate_rows() : nullptr;
    });
    multiply_step(tile, held, sums);
    for_each_unit<Shape>([&](int r, int p, int u) {
      const int64_t b = first + r, size = in.sizes.output;
      const int64_t unit = (grid.place() * Shape::kPanels + p) * kPanelRows + u;
      if (b >= rows || unit >= size) return;
      A* const kept = place.row(in.grad_h, b, size) + unit;
      A grad = *kept;  // of h_n, or what passed step s + 1 beside the gates
      if (b < after)
        grad = sums.total(r, sums.column(p, 0, u)) + (traits.reads_state ? grad : A(0));
      if (s < 0) {
        *kept = grad;
        return;
      }
      grad += to_acc(place.state(in.grad_output, s, b, size)[unit]);
      if (in.sizes.projected)
        in.grad_projected[packed_row(d, s, b) * size + unit] = from_acc<T>(grad);
      else
        finish_any(place, s, b, unit, grad);
    });
  }

  __device__ void unproject(int64_t s, int64_t d, int64_t first, const Sums& sums) const {
    const int64_t p = grid.place(), rows = rows_at(s), size = in.sizes.output;
    if (p >= panels_of(in.sizes.hidden)) return;
    const T* const panel = packed(d, at.weight_hr) + p * panel_size<T>(1, size);
    multiply_step(StepProduct<T>{size, 1, panel, aligned_projected}, sums, [&](int r) {
      const int64_t b = first + r;
      return b < rows ? in.grad_projected + packed_row(d, s, b) * size : nullptr;
    });
    for_each_unit<Shape>([&](int r, int, int u) {
      const int64_t b = first + r, unit = p * kPanelRows + u;
      if (b >= rows || unit >= in.sizes.hidden) return;
      finish_any(StepPlace<T>{in.ragged, d}, s, b, unit, sums.total(r, u));
    });
  }

  __device__ void finish_any(const StepPlace<T>& place, int64_t s, int64_t b, int64_t unit,
                             A grad_h) const {
    with_cell(in.cell, [&]<class Cell>() { finish<Cell>(place, s, b, unit, grad_h); });
  }

  template <class Cell>
  __device__ void finish(const StepPlace<T>& place, int64_t s, int64_t b, int64_t unit,
                         A grad_h) const {
    const int64_t hidden = in.sizes.hidden, size = in.sizes.output, d = place.d;
    CellGradient<Cell, A> g{};
    for (int k = 0; k < Cell::kSaved; ++k)
      g.saved[k] = to_acc(saved_row(d, s, b)[k * hidden + unit]);
    g.grad_h = grad_h;
    if (Cell::kReadsState)
      g.h_prev = to_acc(
          (s > 0 ? place.state(in.output, s - 1, b, size) : place.row(in.h_0, b, size))[unit]);
    A* const grad_c = Cell::kHasCell ? place.row(in.grad_c, b, hidden) + unit : nullptr;
    if (Cell::kHasCell) {
      const T* const before = s > 0 ? saved_row(d, s - 1, b) + (Cell::kSaved - 1) * hidden
                                    : place.row(in.c_0, b, hidden);
      g.c_prev = to_acc(before[unit]);
      g.grad_c = *grad_c;
    }
    Cell::template backward<A>(g);
    const int64_t row = packed_row(d, s, b);
    for (int k = 0; k < Cell::kGates; ++k) {
      const int64_t to = (row * Cell::kGates + k) * hidden + unit;
      in.grad_gates_x[to] = from_acc<T>(g.grad_x[k]);
      if (Cell::kSplit) in.grad_gates_h[to] = from_acc<T>(g.grad_gate_h[k]);
    }
    if (Cell::kHasCell) *grad_c = g.grad_c;
    if (Cell::kReadsState) place.row(in.grad_h, b, size)[unit] = g.grad_h_prev;
    if (in.sizes.projected) in.projected[row * hidden + unit] = from_acc<T>(g.h);
  }
};

template <typename T>
struct PackRowsKernel {
  static constexpr int kThreads = 128, kBlocksPerSm = 1;
  PackRows<T> in;

  __device__ void operator()(char*) const {
    const int64_t i = block_index(), place = in.places[i];
    const T* from = nullptr;
    if (place != kNoRow && in.first && i < in.active[0])
      from = in.first + place % in.batch * in.columns;
    else if (place != kNoRow)
      from = in.from.data + (place / in.batch + in.time_shift) * in.from.time_stride +
             place % in.batch * in.from.batch_stride;
    for (int64_t k = thread_index(); k < in.columns; k += kThreads)
      in.to[i * in.columns + k] = from ? from[k] : from_acc<T>(0);
  }
};

// A block for each place.
template <typename T>
struct UnpackRowsKernel {
  static constexpr int kThreads = 128, kBlocksPerSm = 1;
  UnpackRows<T> in;

  __device__ void operator()(char*) const {
    const int64_t t = block_index() / in.ragged.batch, b = block_index() % in.ragged.batch;
    const int64_t length = in.ragged.lengths[b];
    T* const to = in.to + (t * in.ragged.batch + in.ragged.rows[b]) * in.columns;
    for (int64_t k = thread_index(); k < in.columns; k += kThreads) {
      Acc<T> sum = 0;
      for (int64_t d = 0; d < in.directions && t < length; ++d) {
        const int64_t s = d == 1 ? length - 1 - t : t;
        sum += in.from[(d * in.capacity + in.ragged.offsets[s] + b) * in.columns + k];
      }
      to[k] = from_acc<T>(sum);
    }
  }
};

}  // namespace

PackedBackwardWeights packed_backward_weights(CellKind cell, const RecurrentSizes& s,
                                              int64_t value) {
  const int64_t gates = cell_traits(cell).gates;
  PackedBackwardWeights at{};
  at.weight_hr = panel_bytes(s.output, 1, gates * s.hidden, value);
  at.size = at.weight_hr + (s.projected ? panel_bytes(s.hidden, 1, s.output, value) : 0);
  return at;
}

template <typename T>
void pack_backward_weights(CellKind cell, const RecurrentSizes& s, const RecurrentWeights<T>& w,
                           void* packed, Stream stream) {
  const PackedBackwardWeights at = packed_backward_weights(cell, s, sizeof(T));
  char* const to = static_cast<char*>(packed);
  const auto transposed = [&](const T* weight, int64_t rows, int64_t columns, int64_t bytes) {
    pack_panels<T>({weight, 1, columns, 1, columns, rows}, reinterpret_cast<T*>(to + bytes),
                   stream);
  };
  transposed(w.weight_hh, cell_traits(cell).gates * s.hidden, s.output, at.weight_hh);
  if (s.projected) transposed(w.weight_hr, s.output, s.hidden, at.weight_hr);
}

template <typename T>
void recurrent_backward(const RecurrentBackward<T>& in, Stream stream) {
  if (in.ragged.steps == 0) return;
  const RecurrentSizes& s = in.sizes;
  const CellTraits traits = cell_traits(in.cell);
  const PackedBackwardWeights at = packed_backward_weights(in.cell, s, sizeof(T));
  const bool aligned = is_aligned(in.grad_gates_h, traits.gates * s.hidden);
  const StageWork work{in.directions, in.ragged.batch,
                       panels_of(s.hidden > s.output ? s.hidden : s.output),
                       in.ragged.steps * (s.projected ? 2 : 1) + 1, aligned && !s.projected};
  with_math<T>(in.tf32, [&]<class Math>() {
    launch_stages<Math, 1>(
        work,
        [&]<class Shape>() {
          return BackwardKernel<Shape>{
              in, traits, at, aligned, is_aligned(in.grad_projected, s.output), StepGrid{}};
        },
        stream);
  });
}

template <typename T>
void pack_rows(const PackRows<T>& in, Stream stream) {
  launch(PackRowsKernel<T>{in}, in.capacity, 0, stream);
}

template <typename T>
void unpack_rows(const UnpackRows<T>& in, Stream stream) {
  launch(UnpackRowsKernel<T>{in}, in.ragged.steps * in.ragged.batch, 0, stream);
}

#define SEQ2SEQ_EXT_RECURRENT_BACKWARD(T)                                                          \
  template void pack_backward_weights(CellKind, const RecurrentSizes&, const RecurrentWeights<T>&, \
                                      void*, Stream);                                              \
  template void recurrent_backward(const RecurrentBackward<T>&, Stream);                           \
  template void pack_rows(const PackRows<T>&, Stream);                                             \
  template void unpack_rows(const UnpackRows<T>&, Stream);
SEQ2SEQ_EXT_RECURRENT_BACKWARD(float)
SEQ2SEQ_EXT_RECURRENT_BACKWARD(double)
SEQ2SEQ_EXT_RECURRENT_BACKWARD(Bfloat16)
SEQ2SEQ_EXT_RECURRENT_BACKWARD(Float16)

}  // namespace seq2seq_ext::cuda
