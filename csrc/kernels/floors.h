// What the machine can do at best: rates that a kernel's time is held against. The work is done
// for the clock's sake only.
#pragma once

#include <cstdint>

namespace seq2seq_ext {

struct FloorKernels {
  // `steps` rounds of the instructions that products with the weight type are made of, a micro-
  // kernel's worth a round, on values in registers and L1. Returns how many operations those are: a
  // multiply-add of two values is two.
  int64_t (*multiply)(int64_t steps);
  // Reads all of data [bytes], a multiple of 1024. Returns some of what it read.
  int64_t (*read)(const void* data, int64_t bytes);
};

}  // namespace seq2seq_ext
