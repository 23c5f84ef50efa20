// The micro-kernel under every product: a few rows times a few packed panels, all
// accumulators in registers. Shared by the plain GEMM and the fused layers, which read
// the finished tile while it is still in L1.
#pragma once

#include "gemm_tile_unit.h"
#include "turn.h"

namespace seq2seq_ext::SEQ2SEQ_EXT_ISA {

// What the rows of a tile have at the depth that it has reached. A pointer to each row would not
// fit the registers: one stands for three rows, which an address reaches by stride and scale. The
// compiler would make pointers of the sums again, so it is not shown where the pointers come from.
template <int kRows, class W>
class RowCursor {
  using Row = typename W::Row;
  static constexpr int kShared = 3, kPointers = W::kEncodes ? (kRows + kShared - 1) / kShared : 1;

 public:
  static constexpr int kStep = W::kEncodes ? W::kRowStep : kRows;

  explicit RowCursor(const Tile<W>& t) : stride_(t.a_stride) {
#pragma GCC unroll 4
    for (int i = 0; i < kPointers; ++i) at_[i] = behind<Row>(t.a, i * kShared * stride_);
  }
  const Row* row(int m) const {
    return W::kEncodes ? behind<Row>(at_[m / kShared], m % kShared * stride_) : at_[0] + m;
  }
  void advance() {
#pragma GCC unroll 4
    for (int i = 0; i < kPointers; ++i) {
      at_[i] += kStep;
      asm("" : "+r"(at_[i]));
    }
  }

 private:
  const Row* at_[kPointers];
  const int64_t stride_;
};

template <int kRows, int kPanels, class W>
inline void multiply_tile(const Tile<W>& t) {
  using T = typename W::T;
  constexpr int kWidth = kPanelWidth<T>, kLanes = Simd<T>::kLanes;
  constexpr int kStep = kWidth * W::kGroup;
  RowCursor<kRows, W> a(t);
  const typename W::Stored* b = t.panels;
  const int64_t steps = t.steps, chain = t.chain, c_stride = t.c_stride;
  const int64_t panel_stride = t.panel_stride;
  const T* onto = t.onto;
  int64_t onto_stride = t.onto_stride;
  int64_t k = 0;
  do {
    typename W::Sum acc[kRows][kPanels][2];
#pragma GCC unroll 12
    for (int m = 0; m < kRows; ++m)
#pragma GCC unroll 4
      for (int p = 0; p < kPanels; ++p) {
        acc[m][p][0] = typename W::Sum{};
        acc[m][p][1] = typename W::Sum{};
      }
    for (const int64_t end = smaller(k + chain, steps); k < end; ++k, b += kStep, a.advance()) {
#pragma GCC unroll 4
      for (int p = 0; p < kPanels; ++p) {
        const typename W::Stored* row = behind<typename W::Stored>(b, p * panel_stride);
        constexpr int64_t kBytes = kStep * sizeof(*row);
#pragma GCC unroll 4
        for (int64_t line = 0; line < kBytes; line += 64)
          __builtin_prefetch(behind<char>(row, t.ahead + line));
        const typename W::Weights b0 = W::load(row);
        const typename W::Weights b1 = W::load(row + kStep / 2);
#pragma GCC unroll 12
        for (int m = 0; m < kRows; ++m) {
          W::step(a.row(m), b0, acc[m][p][0]);
          W::step(a.row(m), b1, acc[m][p][1]);
        }
      }
    }
    T* c = t.c;
#pragma GCC unroll 12
    for (int m = 0; m < kRows; ++m, c += c_stride)
#pragma GCC unroll 4
      for (int p = 0; p < kPanels; ++p) {
        const auto* panel = behind<typename W::Stored>(t.panels, p * panel_stride);
#pragma GCC unroll 2
        for (int half = 0; half < 2; ++half) {
          const int64_t column = p * kWidth + half * kLanes;
          const T* from = onto ? onto + m * onto_stride + column : nullptr;
          store(c + column, W::finish(acc[m][p][half], behind<typename W::Row>(t.a, m * t.a_stride),
                                      panel, half * kLanes, from));
        }
      }
    onto = t.c;
    onto_stride = c_stride;
  } while (k < steps);
}

// Few rows: several panels at once keep enough independent chains in flight.
constexpr int panels_at_once(int64_t rows) { return rows == 1 ? 4 : rows <= kTileRows / 2 ? 2 : 1; }

template <int kRows, class W>
inline void multiply_rows(Tile<W> t, int64_t panels) {
  constexpr int kPanels = panels_at_once(kRows);
  const auto step = [&t](int64_t n) {
    t.panels = behind<typename W::Stored>(t.panels, n * t.panel_stride);
    t.c += n * kPanelWidth<typename W::T>;
    if (t.onto) t.onto += n * kPanelWidth<typename W::T>;
  };
  for (; panels >= kPanels; panels -= kPanels, step(kPanels)) multiply_tile<kRows, kPanels>(t);
  for (; panels > 0; --panels, step(1)) multiply_tile<kRows, 1>(t);
}

template <class W>
void multiply_vectors(const Tile<W>& t, int64_t rows, int64_t panels) {
  switch (rows) {
    case 1:
      return multiply_rows<1>(t, panels);
    case 2:
      return multiply_rows<2>(t, panels);
    case 3:
      return multiply_rows<3>(t, panels);
    case 4:
      return multiply_rows<4>(t, panels);
    case 5:
      return multiply_rows<5>(t, panels);
    case 6:
      return multiply_rows<6>(t, panels);
  }
  if constexpr (kTileRows > 6) {
    switch (rows) {
      case 7:
        return multiply_rows<7>(t, panels);
      case 8:
        return multiply_rows<8>(t, panels);
      case 9:
        return multiply_rows<9>(t, panels);
      case 10:
        return multiply_rows<10>(t, panels);
      case 11:
        return multiply_rows<11>(t, panels);
      case 12:
        return multiply_rows<12>(t, panels);
    }
  }
}

// Rows that a weight type of the tile unit multiplies in vectors all the same.
constexpr int64_t kFewRows = 5;

template <class W>
bool multiply_few_rows(const Tile<W>& t, int64_t rows, int64_t panels) {
  if constexpr (requires { typename W::FewRows; }) {
    using Few = typename W::FewRows;
    if (rows > kFewRows) return false;
    const int64_t steps = t.steps * (W::kGroup / Few::kGroup);
    multiply_vectors<Few>({t.a, t.a_stride, t.panels, steps, t.panel_stride, t.c, t.c_stride,
                           t.onto, t.onto_stride, steps, t.ahead},
                          rows, panels);
    return true;
  }
  return false;
}

// rows <= kTileRows. One copy for all callers: it is large.
template <class W>
__attribute__((noinline)) void multiply_tiles(const Tile<W>& t, int64_t rows, int64_t panels) {
  if constexpr (!W::kInTileUnit)
    multiply_vectors(t, rows, panels);
  else if (!multiply_few_rows(t, rows, panels))
    UnitProduct<W>(t, rows).run(panels);
}

// Rows left, cut into tiles of nearly equal height: 8 rows are 4 + 4, not 6 + 2.
inline int64_t tile_height(int64_t rows_left) {
  const int64_t tiles = (rows_left + kTileRows - 1) / kTileRows;
  return (rows_left + tiles - 1) / tiles;
}

// Rows that are not encoded are copied, tile by tile, to strips [depth][rows of the tile]: as they
// are, they would often lie a power of two apart, so that L1 could not hold a line of each, and
// take a pointer each.
template <typename T, class At>
inline void copy_to_strips(const At& at, int64_t rows, int64_t depth, T* strips) {
  for (int64_t row = 0, height; row < rows; row += height, strips += height * depth) {
    height = tile_height(rows - row);
    const T* from[kTileRows];
    for (int64_t m = 0; m < height; ++m) from[m] = at(row + m);
    turn(from, height, depth, strips, height);
  }
}

// The same of neighbouring columns, the first of them at `from`, elements stride apart: a few
// elements of all columns at a time, so that lines a power of two apart are read while L1 has them.
template <typename T>
inline void copy_columns_to_strips(const T* from, int64_t stride, int64_t columns, int64_t depth,
                                   T* strips) {
  constexpr int64_t kFew = 8;
  for (int64_t begin = 0; begin < depth; begin += kFew) {
    const int64_t end = smaller(begin + kFew, depth);
    for (int64_t column = 0, height; column < columns; column += height) {
      height = tile_height(columns - column);
      T* strip = strips + column * depth;
      for (int64_t k = begin; k < end; ++k)
        copy_few(from + k * stride + column, height, strip + k * height);
    }
  }
}

// Rows of A become what tiles read: strips, or encoded rows, row_bytes apart.
//
// at(row) -> T [depth], once a row, in order. prepared: rows * row_bytes(depth) bytes.
template <class W, class At>
inline void prepare_rows(const At& at, int64_t rows, int64_t depth, void* prepared) {
  if constexpr (W::kEncodes)
    for (int64_t row = 0; row < rows; ++row)
      encode_row<W>(at(row), 1, depth, behind<char>(prepared, row * row_bytes<W>(depth)));
  else
    copy_to_strips(at, rows, depth, static_cast<typename W::T*>(prepared));
}

// A tile's first row among the prepared.
template <class W>
inline const typename W::Row* find_row(const void* prepared, int64_t row, int64_t depth) {
  return behind<typename W::Row>(prepared, row * row_bytes<W>(depth) + W::kRowHead);
}

}  // namespace seq2seq_ext::SEQ2SEQ_EXT_ISA
