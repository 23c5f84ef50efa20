// Ops that take long stop where their caller wants it.
#pragma once

#include <cstdint>
#include <optional>

#include "kernels/interrupt.h"

namespace seq2seq_ext {

// The interrupt of one call of an op.
class OpInterrupt {
 public:
  // Work too short for anyone to wait for is never stopped.
  explicit OpInterrupt(int64_t flops) {
    constexpr int64_t kLongFlops = 1'000'000'000;
    if (source_.asks && flops >= kLongFlops) interrupt_.emplace(source_.asks);
  }

  // For the op's team; null if nothing stops it.
  Interrupt* get() { return interrupt_ ? &*interrupt_ : nullptr; }

  // After the team's run: throws if it was stopped.
  void check() const {
    if (interrupt_ && interrupt_->happened()) source_.throws();
  }

 private:
  const InterruptSource source_ = interrupt_source();
  std::optional<Interrupt> interrupt_;
};

}  // namespace seq2seq_ext
