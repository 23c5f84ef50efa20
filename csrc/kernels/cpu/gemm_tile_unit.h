// The micro-kernel of gemm_tile.h for weights that the tile unit multiplies: four registers of sums
// at a time, so that a product need not wait for the one before. Up to 16 rows take two panels,
// more rows one.
#pragma once

#include "tile.h"
#include "tile_unit.h"

namespace seq2seq_ext::SEQ2SEQ_EXT_ISA {

template <class W>
class UnitProduct {
  using T = typename W::T;
  using Sum = typename W::Sum;
  static constexpr int64_t kWidth = kPanelWidth<T>, kHalves = 2;
  static constexpr int64_t kSumBytes = kHalves * sizeof(Sum);
  // From one row of a panel's register to the next, and from one group of depths to the next.
  static constexpr int64_t kPanelRow = kHalves * kUnitBytes, kPanelStep = kUnitRows * kPanelRow;

 public:
  UnitProduct(const Tile<W>& tile, int64_t rows)
      : t_(tile), top_(rows > kUnitRows ? (rows + 1) / 2 : rows), bottom_(rows - top_) {}

  void run(int64_t panels) {
    begin_tiles(shapes());
    if (bottom_ > 0)
      for (int64_t p = 0; p < panels; ++p) many_rows(p);
    else
      for (int64_t p = 0; p < panels; p += 2) few_rows(p, p + 1 < panels);
    end_tiles();
  }

 private:
  TileShapes shapes() const {
    TileShapes shapes;
    const int64_t below = bottom_ > 0 ? bottom_ : top_;
    for (int half = 0; half < kHalves; ++half) {
      shapes.set(kSums + half, top_);
      shapes.set(kSums + kHalves + half, below);
      shapes.set(kWeights + half, kUnitRows);
    }
    shapes.set(kActivations, top_);
    shapes.set(kActivations + 1, bottom_ > 0 ? bottom_ : kUnitRows);
    return shapes;
  }

  // Two registers of sums begin as zeros or, where sums are of the type of c, as what they are
  // added to: rows from `first` on, one panel.
  template <int kFirst>
  void begin(int64_t first, int64_t panel) const {
    if (W::kScaled || !t_.onto) {
      zero_tile<kFirst>();
      zero_tile<kFirst + 1>();
    } else {
      const T* const onto = t_.onto + first * t_.onto_stride + panel * kWidth;
      load_tile<kFirst>(onto, t_.onto_stride * sizeof(T));
      load_tile<kFirst + 1>(onto + kWidth / 2, t_.onto_stride * sizeof(T));
    }
  }

  template <int kFirst>
  void end(int64_t first, int64_t rows, int64_t panel) {
    T* const c = t_.c + first * t_.c_stride + panel * kWidth;
    if constexpr (!W::kScaled) {
      store_tile<kFirst>(c, t_.c_stride * sizeof(T));
      store_tile<kFirst + 1>(c + kWidth / 2, t_.c_stride * sizeof(T));
    } else {
      store_tile<kFirst>(sums_, kSumBytes);
      store_tile<kFirst + 1>(sums_[0] + 1, kSumBytes);
      finish(first, rows, panel, c);
    }
  }

  // The rows of both registers times one panel.
  void many_rows(int64_t panel) {
    const char* top = row(0);
    const char* bottom = row(top_);
    const char* weights = at(panel);
    begin<kSums>(0, panel);
    begin<kSums + kHalves>(top_, panel);
    for (int64_t k = 0; k < t_.steps; ++k) {
      load_tile<kActivations>(top, t_.a_stride);
      load_tile<kWeights>(weights, kPanelRow);
      W::template product<kSums, kActivations, kWeights>();
      load_tile<kWeights + 1>(weights + kUnitBytes, kPanelRow);
      W::template product<kSums + 1, kActivations, kWeights + 1>();
      load_tile<kActivations + 1>(bottom, t_.a_stride);
      W::template product<kSums + 2, kActivations + 1, kWeights>();
      W::template product<kSums + 3, kActivations + 1, kWeights + 1>();
      top += kUnitBytes, bottom += kUnitBytes, weights += kPanelStep;
    }
    end<kSums>(0, top_, panel);
    end<kSums + kHalves>(top_, bottom_, panel);
  }

  // The rows of one register times one panel or, if `both`, two.
  void few_rows(int64_t panel, bool both) {
    constexpr int kThird = kActivations + 1;  // of weights here
    const char* a = row(0);
    const char* weights = at(panel);
    begin<kSums>(0, panel);
    if (both) begin<kSums + kHalves>(0, panel + 1);
    for (int64_t k = 0; k < t_.steps; ++k) {
      load_tile<kActivations>(a, t_.a_stride);
      load_tile<kWeights>(weights, kPanelRow);
      W::template product<kSums, kActivations, kWeights>();
      load_tile<kWeights + 1>(weights + kUnitBytes, kPanelRow);
      W::template product<kSums + 1, kActivations, kWeights + 1>();
      if (both) {
        load_tile<kThird>(weights + t_.panel_stride, kPanelRow);
        W::template product<kSums + 2, kActivations, kThird>();
        load_tile<kWeights>(weights + t_.panel_stride + kUnitBytes, kPanelRow);
        W::template product<kSums + 3, kActivations, kWeights>();
      }
      a += kUnitBytes, weights += kPanelStep;
    }
    end<kSums>(0, top_, panel);
    if (both) end<kSums + kHalves>(0, top_, panel + 1);
  }

  void finish(int64_t first, int64_t rows, int64_t panel, T* c) const {
    const auto* const weights = behind<typename W::Stored>(t_.panels, panel * t_.panel_stride);
    for (int64_t m = 0; m < rows; ++m)
#pragma GCC unroll 2
      for (int half = 0; half < kHalves; ++half) {
        const int64_t column = half * Simd<T>::kLanes;
        const T* const onto =
            t_.onto ? t_.onto + (first + m) * t_.onto_stride + panel * kWidth + column : nullptr;
        store(c + m * t_.c_stride + column,
              W::finish(sums_[m][half], behind<typename W::Row>(t_.a, (first + m) * t_.a_stride),
                        weights, column, onto));
      }
  }

  const char* row(int64_t m) const { return behind<char>(t_.a, m * t_.a_stride); }
  const char* at(int64_t panel) const { return behind<char>(t_.panels, panel * t_.panel_stride); }

  const Tile<W>& t_;
  const int64_t top_, bottom_;  // rows of each register
  Sum sums_[kUnitRows][kHalves];
};

}  // namespace seq2seq_ext::SEQ2SEQ_EXT_ISA
