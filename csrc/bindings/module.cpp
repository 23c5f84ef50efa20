// The Python module: one registration function per bound class.
#include <pybind11/pybind11.h>

namespace seq2seq_ext {
void bind_beam_search(pybind11::module_& m);
void bind_decoder(pybind11::module_& m);
void bind_recurrent_inference(pybind11::module_& m);
void bind_search_options(pybind11::module_& m);
void bind_signals(pybind11::module_& m);
}  // namespace seq2seq_ext

PYBIND11_MODULE(_C, m) {
  m.doc() = "Stateful parts of seq2seq_ext";
  seq2seq_ext::bind_signals(m);
  seq2seq_ext::bind_search_options(m);
  seq2seq_ext::bind_beam_search(m);
  seq2seq_ext::bind_decoder(m);
  seq2seq_ext::bind_recurrent_inference(m);
}
