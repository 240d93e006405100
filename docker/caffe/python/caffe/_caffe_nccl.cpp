// NCCL: gradients of several GPUs' processes, added up. Without it in the build
// there is a class of that name which does nothing.
#include "caffe/_caffe.hpp"

namespace caffe {

#ifdef USE_NCCL

void DefineNCCL(nb::module_* module) {
  typedef NCCL<Dtype> C;
  module->def("has_nccl", [] { return true; });
  Class<C>(module, "NCCL", "Adds up the gradients of several processes.")
    .def("__init__", [](C* nccl, const shared_ptr<Solver<Dtype> >& solver,
                        const nb::bytes& uid) {
      new (nccl) C(solver, string(uid.c_str(), uid.size()));
    }, nb::arg("solver"), nb::arg("uid"))
    .def_static("new_uid", [] {
      const string uid = C::new_uid();
      return nb::bytes(uid.data(), uid.size());
    })
    .def("bcast", &C::Broadcast);
  nb::borrow<nb::class_<Net<Dtype> > >(module->attr("Net"))
    .def("after_backward", [](Net<Dtype>* net, C* nccl) {
      net->add_after_backward(nccl);
    }, nb::arg("nccl"), nb::keep_alive<1, 2>());
  nb::borrow<nb::class_<Solver<Dtype> > >(module->attr("Solver"))
    .def("add_callback", [](Solver<Dtype>* solver, C* nccl) {
      solver->add_callback(nccl);
    }, nb::arg("nccl"), nb::keep_alive<1, 2>());
}

#else

class NoNCCL {};

void DefineNCCL(nb::module_* module) {
  module->def("has_nccl", [] { return false; });
  Class<NoNCCL>(module, "NCCL", "Does nothing: this Caffe has no NCCL.")
    .def("__init__", [](NoNCCL* nccl, const shared_ptr<Solver<Dtype> >&,
                        const nb::bytes&) { new (nccl) NoNCCL; },
         nb::arg("solver"), nb::arg("uid"));
}

#endif  // USE_NCCL

}  // namespace caffe
