// maam_ops._core: every kernel callable on NumPy arrays, without MindSpore, through the same entry points.
#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <cstring>

#include "ceiling/ceiling.h"
#include "core/aot.h"
#include "core/dispatch.h"
#include "core/dtype.h"
#include "core/error.h"
#include "core/parallel.h"
#include "core/trace.h"

namespace py = pybind11;

namespace {

// Of a type that the kernels know, else 0: the entry point refuses the others.
int64_t ElementSize(const std::string& dtype) {
  using maam::DType;
  for (DType known : {DType::kFloat32, DType::kFloat16, DType::kBFloat16, DType::kFloat64, DType::kInt32, DType::kUInt8,
                      DType::kInt8}) {
    if (dtype == Name(known)) return SizeOf(known);
  }
  return 0;
}

// One call of an AOT function on arrays. `dtypes` names element types that NumPy lacks (bfloat16, held as uint16).
void Launch(const std::string& function, const std::vector<py::array>& inputs, const std::vector<py::array>& outputs,
            const std::vector<std::string>& dtypes) {
  const auto found = maam::AotFunctions().find(function);
  if (found == maam::AotFunctions().end()) throw maam::Error("maam_ops._core.launch: no entry point " + function);
  std::vector<py::array> arrays = inputs;
  arrays.insert(arrays.end(), outputs.begin(), outputs.end());
  if (dtypes.size() != arrays.size()) {
    maam::Fail("_core.launch", "dtypes", std::to_string(dtypes.size()), std::to_string(arrays.size()));
  }
  std::vector<void*> params;
  std::vector<int> ndims;
  std::vector<std::vector<int64_t>> extents;
  std::vector<int64_t*> shapes;
  std::vector<const char*> names;
  for (size_t i = 0; i < arrays.size(); ++i) {
    if (!(arrays[i].flags() & py::array::c_style)) {
      maam::Fail("_core.launch", "array " + std::to_string(i), "strides", "a C-contiguous array");
    }
    if (const auto size = ElementSize(dtypes[i]); size > 0 && size != arrays[i].itemsize()) {
      maam::Fail("_core.launch", "array " + std::to_string(i),
                 std::to_string(arrays[i].itemsize()) + " bytes an element",
                 std::to_string(size) + " for " + dtypes[i]);
    }
    if (i >= inputs.size() && !arrays[i].writeable()) {
      maam::Fail("_core.launch", "result " + std::to_string(i - inputs.size()), "a read-only array", "a writeable one");
    }
    params.push_back(const_cast<void*>(arrays[i].data()));
    ndims.push_back(static_cast<int>(arrays[i].ndim()));
    extents.emplace_back(arrays[i].shape(), arrays[i].shape() + arrays[i].ndim());
    names.push_back(dtypes[i].c_str());
  }
  for (auto& extent : extents) shapes.push_back(extent.data());
  py::gil_scoped_release release;
  found->second(static_cast<int>(arrays.size()), params.data(), ndims.data(), shapes.data(), names.data(), nullptr,
                nullptr);
}

py::list Kernels() {
  py::list result;
  for (const maam::Variant& variant : maam::Inventory()) {
    result.append(py::make_tuple(variant.kernel, maam::Name(variant.isa), variant.isa <= maam::DetectedIsa()));
  }
  return result;
}

py::dict CounterDict() {
  py::dict result;
  for (const auto& [name, counters] : maam::Counters()) {
    py::dict row;
    row["calls"] = counters.calls;
    row["seconds"] = counters.seconds;
    row["bytes_moved"] = counters.bytes_moved;
    row["scratch_bytes"] = counters.scratch_bytes;
    result[name.c_str()] = row;
  }
  return result;
}

using Stream = py::array_t<float, py::array::c_style>;

void CeilingBandwidth(const std::vector<Stream>& inputs, std::vector<Stream> outputs, bool streaming, bool blocked,
                      bool ranges) {
  maam::BandwidthPass p;
  p.streaming = streaming;
  p.blocked = blocked;
  p.ranges = ranges;
  p.reads = static_cast<int>(inputs.size());
  p.writes = static_cast<int>(outputs.size());
  p.size = inputs.empty() ? 0 : inputs[0].size();
  const auto expect_size = [&p](const Stream& stream) {
    if (stream.size() != p.size) {
      maam::Fail("ceiling_bandwidth", "arrays", std::to_string(stream.size()) + " elements",
                 std::to_string(p.size) + " as in the first input");
    }
  };
  for (int k = 0; k < p.reads && k < maam::kMaxCeilingReads; ++k) {
    expect_size(inputs[k]);
    p.in[k] = inputs[k].data();
  }
  for (int k = 0; k < p.writes && k < maam::kMaxCeilingWrites; ++k) {
    expect_size(outputs[k]);
    p.out[k] = outputs[k].mutable_data();
  }
  py::gil_scoped_release release;
  maam::RunBandwidthPass(p);
}

}  // namespace

PYBIND11_MODULE(_core, m) {
  m.doc() = "The native kernels of maam_ops on NumPy arrays, and what runs them.";
  py::register_exception<maam::Error>(m, "Error", PyExc_ValueError);
  m.def("launch", &Launch, py::arg("function"), py::arg("inputs"), py::arg("outputs"), py::arg("dtypes"),
        "Call one AOT entry point on C-contiguous arrays; `outputs` are written in place.");
  m.def(
      "functions",
      [] {
        std::vector<std::string> names;
        for (const auto& entry : maam::AotFunctions()) names.push_back(entry.first);
        return names;
      },
      "Names of the AOT entry points.");
  m.def("kernels", &Kernels, "The inventory: (kernel, instruction set, whether this CPU runs it).");
  m.def("detected_isa", [] { return maam::Name(maam::DetectedIsa()); });
  m.def("active_isa", [] { return maam::Name(maam::ActiveIsa()); });
  m.def(
      "cap_isa", [](const std::string& name) { maam::CapIsa(maam::ParseIsa(name)); }, py::arg("name"),
      "Use no instruction set above this one from now on.");
  m.def("num_threads", &maam::NumThreads);
  m.def("set_num_threads", &maam::SetNumThreads, py::arg("n"));
  m.def("counters", &CounterDict,
        "Calls, seconds, bytes moved and largest scratch by 'kernel/isa' since the last reset.");
  m.def("reset_counters", &maam::ResetCounters);
  m.def("ceiling_bandwidth", &CeilingBandwidth, py::arg("inputs").noconvert(), py::arg("outputs").noconvert(),
        py::kw_only(), py::arg("streaming"), py::arg("blocked"), py::arg("ranges"),
        "One pass at the memory's speed: every float32 input read once, every output overwritten once. All arrays have "
        "the same number of elements, a multiple of 1024; which of the eight ways is fastest depends on it.");
  m.def("ceiling_fma", &maam::RunFmaPass, py::call_guard<py::gil_scoped_release>(),
        "A fixed amount of float32 multiply-add in registers on all threads; returns the FLOP done.");
  m.attr("__version__") = MAAM_OPS_VERSION;
}
