// The module caffe._caffe, and its functions.
#include <climits>
#include <stdexcept>

#include "caffe/_caffe.hpp"

#pragma GCC visibility push(default)
#include "caffe/util/blas_kernel.hpp"
#include "caffe/util/upgrade_proto.hpp"
#pragma GCC visibility pop

namespace caffe {

static void InitLog(std::optional<int> level, std::optional<bool> to_stderr) {
  if (level) { FLAGS_minloglevel = *level; }
  if (to_stderr) { FLAGS_logtostderr = *to_stderr; }
  static bool begun = false;
  if (begun) { return; }  // glog ends a process that begins twice
  begun = true;
  ::google::InitGoogleLogging("");
  ::google::InstallFailureSignalHandler();
}

// A serialized NetParameter of today's form, from one of any form.
static nb::bytes UpgradeNet(const nb::bytes& serialized) {
  NetParameter net;
  if (!net.ParseFromArray(serialized.c_str(), serialized.size()) ||
      !UpgradeNetAsNeeded("net", &net)) {
    throw std::runtime_error("Not a net, or one that cannot be upgraded");
  }
  const string upgraded = net.SerializeAsString();
  return nb::bytes(upgraded.data(), upgraded.size());
}

static void DefineLog(nb::module_* module) {
  module->def("init_log", &InitLog, nb::arg("level") = nb::none(),
              nb::arg("stderr") = nb::none(),
              "Start the log: from which level on (0: everything, 1: warnings, "
              "2: errors), and whether to stderr only instead of files. Called "
              "again, it only sets these two.");
  module->def("log", [](const string& text) { LOG(INFO) << text; },
              nb::arg("text"), "Write a line into the log, of level 0.");
}

static void SetRandomSeed(int64_t seed) {
  if (seed < 0 || seed > UINT_MAX) {
    throw std::overflow_error("a seed is 0 to 4294967295, not " +
                              std::to_string(seed));
  }
  Caffe::set_random_seed(seed);
}

static void DefineChoices(nb::module_* module) {
  module->def("set_mode_cpu", [] { Caffe::set_mode(Caffe::CPU); },
              "Compute on the CPU in this thread, as is done from the start.");
  module->def("set_mode_gpu", [] { Caffe::set_mode(Caffe::GPU); },
              "Compute on a GPU in this thread. In a Caffe for CPUs nets and "
              "solvers raise caffe.Error then, until set_mode_cpu().");
  module->def("set_random_seed", &SetRandomSeed, nb::arg("seed"),
              "Let all that is random in this thread begin with this seed, 0 "
              "to 4294967295.");
  module->def("set_device", &Caffe::SetDevice, nb::arg("device_id"),
              "Choose a GPU by its number; caffe.Error in a Caffe for CPUs.");
#ifndef CPU_ONLY
  module->def("gpu_problem", &Caffe::GPUProblem, nb::arg("device_id"),
              "Why that GPU cannot be used; empty if it can.");
#endif
  module->def("solver_count", &Caffe::solver_count);
  module->def("set_solver_count", &Caffe::set_solver_count, nb::arg("value"));
  module->def("solver_rank", &Caffe::solver_rank);
  module->def("set_solver_rank", &Caffe::set_solver_rank, nb::arg("value"));
  module->def("set_multiprocess", &Caffe::set_multiprocess, nb::arg("value"));
}

static void DefineTimer(nb::module_* module) {
  Class<Timer>(module, "Timer", "Measures between start and stop.")
    .def(nb::init<>())
    .def("start", &Timer::Start)
    .def("stop", &Timer::Stop)
    .def_prop_ro("ms", &Timer::MilliSeconds);
}

}  // namespace caffe

NB_MODULE(_caffe, module) {
  // Users keep nets in all kinds of places when Python ends.
  nb::set_leak_warnings(false);
  module.attr("__version__") = AS_STRING(CAFFE_VERSION);
  caffe::DefineError(&module);
  caffe::DefineLog(&module);
  caffe::DefineChoices(&module);
  caffe::DefineVectors(&module);
  caffe::DefineBlob(&module);
  caffe::DefineLayer(&module);
  caffe::DefineNet(&module);
  caffe::DefineSolver(&module);
  caffe::DefineNCCL(&module);
  caffe::DefineTimer(&module);
  caffe::DefineTool(&module);
  module.def("layer_type_list",
             &caffe::LayerRegistry<caffe::Dtype>::LayerTypeList,
             "The types of layers that a prototxt may name.");
  module.def("_upgrade_net", &caffe::UpgradeNet, nb::arg("serialized"));
  module.def("blas_kernel", &caffe::blas_kernel,
             "The CPU whose kernels OpenBLAS runs, in its own words.");
}
