#include "signals.h"

#include <pybind11/pybind11.h>

#include "kernels/interrupt.h"

namespace seq2seq_ext {

namespace py = pybind11;

namespace {

unsigned long main_thread = 0;

}  // namespace

bool signal_raised() {
  if (PyThread_get_thread_ident() != main_thread) return false;
  const py::gil_scoped_acquire acquire;
  return PyErr_CheckSignals() != 0;
}

void throw_signal() {
  const py::gil_scoped_acquire acquire;
  throw py::error_already_set();
}

void bind_signals(py::module_&) {
  const py::object main = py::module_::import("threading").attr("main_thread")();
  main_thread = main.attr("ident").cast<unsigned long>();
  set_interrupt_source({signal_raised, throw_signal});
}

}  // namespace seq2seq_ext
