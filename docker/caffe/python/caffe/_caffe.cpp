// The module caffe._caffe, and its functions.
#include "caffe/_caffe.hpp"

#pragma GCC visibility push(default)
#include "caffe/util/blas_kernel.hpp"
#include "caffe/util/upgrade_proto.hpp"
#pragma GCC visibility pop

namespace caffe {

static void InitLog(std::optional<int> level, std::optional<bool> to_stderr) {
  if (level) { FLAGS_minloglevel = *level; }
  if (to_stderr) { FLAGS_logtostderr = *to_stderr; }
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
              "Starts the log: of what level on, and whether to stderr only.");
  module->def("log", [](const string& text) { LOG(INFO) << text; },
              nb::arg("text"));
}

static void DefineChoices(nb::module_* module) {
  module->def("set_mode_cpu", [] { Caffe::set_mode(Caffe::CPU); });
  module->def("set_mode_gpu", [] { Caffe::set_mode(Caffe::GPU); });
  module->def("set_random_seed", [](unsigned int seed) {
    Caffe::set_random_seed(seed);
  }, nb::arg("seed"));
  module->def("set_device", &Caffe::SetDevice, nb::arg("device_id"));
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
             &caffe::LayerRegistry<caffe::Dtype>::LayerTypeList);
  module.def("_upgrade_net", &caffe::UpgradeNet, nb::arg("serialized"));
  module.def("blas_kernel", &caffe::blas_kernel,
             "The CPU whose kernels OpenBLAS runs, in its own words.");
}
