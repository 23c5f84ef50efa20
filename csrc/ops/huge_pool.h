// Huge pages that tensors have given back, for the next that ask for as much: a page that is new
// takes the system longer than a kernel takes to fill it.
#pragma once

#include <memory>

#include "kernels/huge_pages.h"

namespace seq2seq_ext {

struct HugeBlock {
  std::shared_ptr<HugePages> pages;  // they return to the pool with their last owner
  bool is_zero;                      // nobody had them before
};

HugeBlock take_huge(int64_t bytes);

}  // namespace seq2seq_ext
