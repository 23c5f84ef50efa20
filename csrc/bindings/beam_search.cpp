#include <pybind11/pybind11.h>

namespace seq2seq_ext {
void bind_beam_search(pybind11::module_&) {}
}  // namespace seq2seq_ext
