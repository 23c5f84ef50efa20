// Forward: a stage is a step, or two with a projection: the units, then the projected state.
#include "one_step.cuh"
#include "row_order.cuh"

namespace seq2seq_ext::cuda {

namespace {

template <class ShapeOfKernel>
struct ForwardKernel {
  using Shape = ShapeOfKernel;
  using Math = typename Shape::Math;
  using T = typename Math::Value;
  using A = Acc<T>;
  using Sums = StepSums<Shape, LstmCell::kGates>;
  using Held = HeldPanels<Shape, LstmCell::kGates>;
  // Two blocks leave 128 registers a thread; the sums of MultiplyAdds need more, as do held panels.
  static constexpr int kThreads = kStepThreads, kBlocksPerSm = Shape::kKept ? 1 : kStepTiles<Math>;
  RecurrentForward<T> in;
  CellTraits traits;
  PackedWeights at;
  bool aligned_states, aligned_unprojected;
  StepGrid grid;

  __device__ void operator()(char* shared) const { run_stages(*this, shared); }

  __device__ unsigned* counters() const { return in.counters; }
  __host__ __device__ int main_gates() const { return static_cast<int>(traits.gates); }
  __host__ __device__ int main_slabs() const {
    return static_cast<int>(divide_up(in.sizes.output, kSlab<T>));
  }
  __device__ const T* main_panel(int64_t d, int64_t p) const {
    const int64_t size = panel_size<T>(traits.gates, in.sizes.output);
    return p < panels_of(in.sizes.hidden) ? packed(d, at.weight_hh) + p * size : nullptr;
  }
  __device__ int64_t stages() const { return in.sizes.projected ? 2 : 1; }
  __device__ int64_t rows_of(int64_t stage) const { return in.ragged.active[stage / stages()]; }

  __device__ void run(int64_t stage, int64_t d, int64_t b, const Held& held,
                      const Sums& sums) const {
    if constexpr (Shape::kKept > 0)
      step(stage, d, b, held, sums);
    else if (stage % stages() == 1)
      project(stage / stages(), d, b, sums);
    else
      step(stage / stages(), d, b, held, sums);
  }

 private:
  template <typename U = T>
  __device__ const U* packed(int64_t d, int64_t bytes) const {
    return reinterpret_cast<const U*>(in.packed + d * at.size + bytes);
  }

  __device__ const T* previous(const StepPlace<T>& place, int64_t s, int64_t b) const {
    return s > 0 ? place.state(in.output, s - 1, b, in.sizes.output)
                 : place.row(in.h_0, b, in.sizes.output);
  }

  __device__ void step(int64_t s, int64_t d, int64_t first, const Held& held,
                       const Sums& sums) const {
    const StepPlace<T> place{in.ragged, d};
    const int64_t rows = in.ragged.active[s];
    const StepTile<Shape> tile(in.sizes.output, aligned_states, [&](int r) {
      return first + r < rows ? previous(place, s, first + r) : nullptr;
    });
    multiply_step(tile, held, sums);
    for_each_unit<Shape>([&](int r, int p, int u) {
      const int64_t b = first + r, unit = (grid.place() * Shape::kPanels + p) * kPanelRows + u;
      if (b >= rows || unit >= in.sizes.hidden) return;
      with_cell(in.cell, [&]<class Cell>() {
        A totals[Cell::kGates];
        for (int k = 0; k < Cell::kGates; ++k) totals[k] = sums.total(r, sums.column(p, k, u));
        finish<Cell>(place, s, b, unit, totals);
      });
    });
  }

  template <class Cell>
  __device__ void finish(const StepPlace<T>& place, int64_t s, int64_t b, int64_t unit,
                         const A (&totals)[Cell::kGates]) const {
    const int64_t hidden = in.sizes.hidden, packed_row = in.ragged.offsets[s] + b, d = place.d;
    const A* const gates_x = in.gates_x + (d * in.capacity + packed_row) * Cell::kGates * hidden;
    const A* const bias_h = packed<A>(d, at.bias_h);
    A x[Cell::kGates], h[Cell::kGates], saved[Cell::kSaved], c = 0, h_prev = 0;
    for (int k = 0; k < Cell::kGates; ++k) {
      x[k] = gates_x[k * hidden + unit];
      h[k] = totals[k] + bias_h[k * hidden + unit];
    }
    A* const cell = Cell::kHasCell ? place.row(in.c, b, hidden) + unit : nullptr;
    if (Cell::kHasCell) c = *cell;
    if (Cell::kReadsState) h_prev = to_acc(load_fresh(previous(place, s, b) + unit));
    const A state = Cell::template forward<A>(x, h, h_prev, c, saved);
    if (Cell::kHasCell) *cell = c;
    if (in.sizes.projected)
      in.unprojected[(d * in.ragged.batch + b) * hidden + unit] = from_acc<T>(state);
    else
      store_state(place, s, b, unit, from_acc<T>(state));
    if (!in.saved) return;
    T* const kept = in.saved + (d * in.saved_rows + packed_row) * Cell::kSaved * hidden + unit;
    for (int k = 0; k < Cell::kSaved; ++k) kept[k * hidden] = from_acc<T>(saved[k]);
  }

  __device__ void project(int64_t s, int64_t d, int64_t first, const Sums& sums) const {
    const StepPlace<T> place{in.ragged, d};
    const int64_t rows = in.ragged.active[s], hidden = in.sizes.hidden;
    for (int64_t p = grid.place(); p < panels_of(in.sizes.output); p += grid.places) {
      const T* const panel = packed(d, at.weight_hr) + p * panel_size<T>(1, hidden);
      multiply_step(StepProduct<T>{hidden, 1, panel, aligned_unprojected}, sums, [&](int r) {
        const T* row = in.unprojected + (d * in.ragged.batch + first + r) * hidden;
        return first + r < rows ? row : nullptr;
      });
      for_each_unit<Shape>([&](int r, int, int u) {
        const int64_t unit = p * kPanelRows + u;
        if (first + r < rows && unit < in.sizes.output)
          store_state(place, s, first + r, unit, from_acc<T>(sums.total(r, u)));
      });
    }
  }

  __device__ void store_state(const StepPlace<T>& place, int64_t s, int64_t b, int64_t unit,
                              T h) const {
    place.state(in.output, s, b, in.sizes.output)[unit] = h;
    if (s + 1 == in.ragged.lengths[b]) place.row(in.h_n, b, in.sizes.output)[unit] = h;
  }
};

template <class Cell>
CellTraits traits_of() {
  return {Cell::kGates, Cell::kSaved, Cell::kHasCell, Cell::kSplit, Cell::kReadsState};
}

}  // namespace

CellTraits cell_traits(CellKind kind) {
  switch (kind) {
    case CellKind::kLstm:
      return traits_of<LstmCell>();
    case CellKind::kGru:
      return traits_of<GruCell>();
    default:
      return traits_of<RnnCell<Tanh>>();
  }
}

PackedWeights packed_weights(CellKind cell, const RecurrentSizes& s, int64_t value, int64_t sum) {
  const int64_t gates = cell_traits(cell).gates;
  PackedWeights at{};
  at.weight_hr = panel_bytes(s.hidden, gates, s.output, value);
  at.bias_x = at.weight_hr + (s.projected ? panel_bytes(s.output, 1, s.hidden, value) : 0);
  at.bias_h = at.bias_x + lines(gates * s.hidden * sum);
  at.size = at.bias_h + lines(gates * s.hidden * sum);
  return at;
}

template <typename T>
void pack_weights(CellKind cell, const RecurrentSizes& s, const RecurrentWeights<T>& w,
                  void* packed, Stream stream) {
  const PackedWeights at = packed_weights(cell, s, sizeof(T), sizeof(Acc<T>));
  const int64_t gates = cell_traits(cell).gates, rows = gates * s.hidden;
  char* const to = static_cast<char*>(packed);
  const auto part = [&]<typename U>(U*, int64_t bytes) { return reinterpret_cast<U*>(to + bytes); };
  T* const none = nullptr;
  Acc<T>* const no_bias = nullptr;
  pack_panels<T>({w.weight_hh, s.output, 1, gates, s.hidden, s.output}, part(none, at.weight_hh),
                 stream);
  if (s.projected)
    pack_panels<T>({w.weight_hr, s.hidden, 1, 1, s.output, s.hidden}, part(none, at.weight_hr),
                   stream);
  launch(BiasKernel<T>{cell, w.bias_ih, w.bias_hh, rows, s.hidden, part(no_bias, at.bias_x),
                       part(no_bias, at.bias_h)},
         divide_up(rows, BiasKernel<T>::kThreads), 0, stream);
}

void order_rows(const RowOrder& in, Stream stream) {
  launch(RankKernel{in}, divide_up(in.batch, kRowThreads), 0, stream);
  launch(CountKernel{in}, divide_up(in.steps + 1, kRowThreads), 0, stream);
  launch(PlaceKernel{in}, divide_up(in.steps * in.batch, PlaceKernel::kThreads), 0, stream);
}

template <typename T>
void recurrent_forward(const RecurrentForward<T>& in, Stream stream) {
  const RecurrentSizes& s = in.sizes;
  const bool aligned = is_aligned(in.h_0, s.output) &&
                       is_aligned(in.output.data, in.output.time_stride) &&
                       is_aligned(in.output.data, in.output.batch_stride);
  const CellTraits traits = cell_traits(in.cell);
  const PackedWeights at = packed_weights(in.cell, s, sizeof(T), sizeof(Acc<T>));
  const StageWork work{in.directions, in.ragged.batch, panels_of(s.hidden),
                       in.ragged.steps * (s.projected ? 2 : 1), aligned && !s.projected};
  with_math<T>(in.tf32, [&]<class Math>() {
    launch_stages<Math, LstmCell::kGates>(
        work,
        [&]<class Shape>() {
          return ForwardKernel<Shape>{
              in, traits, at, aligned, is_aligned(in.unprojected, s.hidden), StepGrid{}};
        },
        stream);
  });
}

template <typename T>
void recurrent_step(const RecurrentStep<T>& in, Stream stream) {
  const RecurrentSizes& s = in.sizes;
  const RecurrentWeights<T>& w = in.weights;
  const auto operands = [](const T* rows, int64_t stride, const T* weight, int64_t depth) {
    const bool aligned = is_aligned(rows, stride) && is_aligned(weight, depth);
    return StepOperands<T>{rows, stride, weight, depth, aligned};
  };
  with_math<T>(in.tf32, [&]<class Math>() {
    const OneStepKernel<Math> kernel{in, cell_traits(in.cell),
                                     operands(in.input, in.input_stride, w.weight_ih, s.input),
                                     operands(in.h_0, s.output, w.weight_hh, s.output)};
    launch(kernel, kernel.blocks(), kernel.shared_bytes(), stream);
  });
}

#define SEQ2SEQ_EXT_RECURRENT(T)                                                                 \
  template void pack_weights(CellKind, const RecurrentSizes&, const RecurrentWeights<T>&, void*, \
                             Stream);                                                            \
  template void recurrent_forward(const RecurrentForward<T>&, Stream);                           \
  template void recurrent_step(const RecurrentStep<T>&, Stream);
SEQ2SEQ_EXT_RECURRENT(float)
SEQ2SEQ_EXT_RECURRENT(double)
SEQ2SEQ_EXT_RECURRENT(Bfloat16)
SEQ2SEQ_EXT_RECURRENT(Float16)

}  // namespace seq2seq_ext::cuda
