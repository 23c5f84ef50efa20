// A module's fast way for Python: no dispatcher, as a call of it takes longer than a small cell.
#include "ops/recurrent_inference.h"

#include <ATen/PythonTorchFunctionTLS.h>
#include <ATen/record_function.h>
#include <c10/core/impl/TorchDispatchModeTLS.h>
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>
#include <torch/csrc/autograd/python_variable.h>

#include <string>

namespace seq2seq_ext {

namespace py = pybind11;

namespace {

using Tensors = std::vector<at::Tensor>;

// A tensor of no other Python type, or None.
bool is_exact(const py::handle& object) {
  return object.is_none() || THPVariable_CheckExact(object.ptr());
}

std::optional<at::Tensor> tensor(const py::handle& object) {
  if (object.is_none()) return std::nullopt;
  return THPVariable_Unpack(object.ptr());
}

Tensors tensors(const py::sequence& objects) {
  Tensors all;
  for (const py::handle each : objects) {
    if (!THPVariable_Check(each.ptr()))
      throw py::type_error("RecurrentInference: expected tensors, got " +
                           py::cast<std::string>(py::str(py::type::of(each))));
    all.push_back(THPVariable_Unpack(each.ptr()));
  }
  return all;
}

// Whether Python watches tensors in a way that a call past the dispatcher would hide from it.
bool is_watched() {
  return at::impl::torch_function_mode_enabled() || c10::impl::dispatch_mode_enabled() ||
         at::hasCallbacks();
}

py::object results(const Tensors& found) {
  if (found.empty()) return py::none();
  py::tuple all(found.size());
  for (size_t i = 0; i < found.size(); ++i)
    all[i] = py::reinterpret_steal<py::object>(THPVariable_Wrap(found[i]));
  return all;
}

class BoundRecurrentInference {
 public:
  BoundRecurrentInference(const std::string& cell, const py::tuple& names,
                          const py::sequence& weights, int64_t state, const py::sequence& packed)
      : names_(names), weights_(weights), module_(cell, tensors(weights), state, tensors(packed)) {
    if (weights_.size() != names_.size())
      throw py::value_error("RecurrentInference: names: expected one for each weight");
  }

  // None where the module must go the general way.
  py::object step(const py::dict& parameters, const py::object& input, const py::object& h,
                  const py::object& c) const {
    if (!may_run(parameters) || input.is_none() || !is_exact(input) || !is_exact(h) || !is_exact(c))
      return py::none();
    return run([&] { return module_.step(*tensor(input), tensor(h), tensor(c)); });
  }

  py::object layers(const py::dict& parameters, const py::object& input, const py::object& lengths,
                    const py::object& h_0, const py::object& c_0, bool batch_first) const {
    if (!may_run(parameters) || input.is_none() || !is_exact(input) || !is_exact(lengths) ||
        !is_exact(h_0) || !is_exact(c_0))
      return py::none();
    return run([&] {
      return module_.layers(*tensor(input), tensor(lengths), tensor(h_0), tensor(c_0), batch_first);
    });
  }

 private:
  // The module's parameters are those that this was made of.
  bool may_run(const py::dict& parameters) const {
    for (size_t i = 0; i < names_.size(); ++i)
      if (PyDict_GetItem(parameters.ptr(), PyTuple_GET_ITEM(names_.ptr(), i)) !=
          PyTuple_GET_ITEM(weights_.ptr(), i))
        return false;
    return !is_watched();
  }

  template <class Body>
  static py::object run(const Body& body) {
    Tensors found;
    {
      const py::gil_scoped_release release;
      found = body();
    }
    return results(found);
  }

  const py::tuple names_, weights_;
  const RecurrentInference module_;
};

}  // namespace

void bind_recurrent_inference(py::module_& m) {
  py::class_<BoundRecurrentInference>(m, "RecurrentInference")
      .def(py::init<const std::string&, const py::tuple&, const py::sequence&, int64_t,
                    const py::sequence&>(),
           py::arg("cell"), py::arg("names"), py::arg("weights"), py::arg("state"),
           py::arg("packed"))
      .def("step", &BoundRecurrentInference::step)
      .def("layers", &BoundRecurrentInference::layers);
}

}  // namespace seq2seq_ext
