// The engine behind a Python BeamSearch, for the loop that drives it.
#pragma once

#include <pybind11/pybind11.h>

#include <mutex>

#include "kernels/beam_search.h"

namespace seq2seq_ext {

struct SearchHandle {
  BeamSearch* search;
  std::mutex* mutex;  // to be held, but not together with the GIL, while the engine is at work
};

SearchHandle search_of(const pybind11::handle& object);

}  // namespace seq2seq_ext
