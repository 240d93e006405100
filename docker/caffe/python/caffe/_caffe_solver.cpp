// Solvers, of each kind, and their parameters.
#include <chrono>  // NOLINT(build/c++11)

#include "caffe/_caffe.hpp"
#include "caffe/_caffe_gil.hpp"

#pragma GCC visibility push(default)
#include "caffe/sgd_solvers.hpp"
#include "caffe/util/upgrade_proto.hpp"
#pragma GCC visibility pop

namespace caffe {

typedef Solver<Dtype> S;

// Asked between iterations: lets Python's handlers of signals run, ten times a
// second at most. What they raise, as Ctrl-C's does, ends the training there.
static SolverAction::Enum HearSignals() {
  typedef std::chrono::steady_clock Clock;
  static thread_local Clock::time_point last;
  const Clock::time_point now = Clock::now();
  if (now - last > std::chrono::milliseconds(100)) {
    last = now;
    CallPython([] {
      if (PyErr_CheckSignals() != 0) { throw nb::python_error(); }
    });
  }
  return SolverAction::NONE;
}

static void Step(S* solver, int iterations) {
  CheckMode();
  solver->SetActionFunction(&HearSignals);
  ReleaseGIL release;
  solver->Step(iterations);
}

static void Solve(S* solver, const std::optional<Path>& resume_file) {
  CheckMode();
  solver->SetActionFunction(&HearSignals);
  ReleaseGIL release;
  solver->Solve(resume_file ? resume_file->name.c_str() : NULL);
}

static S* GetSolver(const Path& filename) {
  SolverParameter param;
  ReadSolverParamsFromTextFileOrDie(filename.name, &param);
  return SolverRegistry<Dtype>::CreateSolver(param);
}

class SolverCallback : public S::Callback {
 public:
  SolverCallback(const nb::callable& on_start,
                 const nb::callable& on_gradients_ready)
    : on_start_(on_start), on_gradients_ready_(on_gradients_ready) {}

 protected:
  virtual void on_start() { CallPython([&] { on_start_(); }); }
  virtual void on_gradients_ready() {
    CallPython([&] { on_gradients_ready_(); });
  }

 private:
  const nb::callable on_start_, on_gradients_ready_;
};

// Solvers do not own their callbacks: they live as long as the program.
static void AddCallback(S* solver, const nb::callable& on_start,
                        const nb::callable& on_gradients_ready) {
  solver->add_callback(new SolverCallback(on_start, on_gradients_ready));
}

static void DefineParameter(nb::module_* module) {
  typedef SolverParameter P;
  nb::class_<P>(*module, "SolverParameter", "What a prototxt says of a solver.")
    .def_prop_ro("max_iter", &P::max_iter)
    .def_prop_ro("display", &P::display)
    .def_prop_ro("layer_wise_reduce", &P::layer_wise_reduce)
    .def_prop_rw("base_lr", &P::base_lr, &P::set_base_lr);
}

template <typename Kind, typename Base>
static nb::class_<Kind, Base> DefineKind(nb::module_* module,
                                         const char* name) {
  return nb::class_<Kind, Base>(*module, name)
    .def("__init__", [](Kind* solver, const Path& param_file) {
      new (solver) Kind(param_file.name);
    }, nb::arg("param_file"));
}

void DefineSolver(nb::module_* module) {
  DefineParameter(module);
  Class<S>(module, "Solver",
      "What trains a net. get_solver('solver.prototxt') makes one of the kind\n"
      "that the file names, SGDSolver and its like one of theirs.")
    .def_prop_ro("net", [](S* solver) { return solver->net(); },
                 "The net that is trained.")
    .def_prop_ro("test_nets", [](S* solver)
                 -> const vector<shared_ptr<Net<Dtype> > >& {
      return solver->test_nets();
    }, "The nets that it is tested with: they have its weights after a test.")
    .def_prop_ro("iter", &S::iter, "How many iterations are done.")
    .def("add_callback", &AddCallback, nb::arg("on_start"),
         nb::arg("on_gradients_ready"))
    .def("solve", &Solve, nb::arg("resume_file") = nb::none(),
         "Train until max_iter, with tests and snapshots; from a .solverstate "
         "on, if one is given.")
    .def("step", &Step, nb::arg("iterations"),
         "Train for that many iterations.")
    .def("restore", [](S* solver, const Path& filename) {
      solver->Restore(filename.name.c_str());
    }, nb::arg("filename"),
       "Go on from a .solverstate, whose .caffemodel is where it was written.")
    .def("snapshot", &S::Snapshot,
         "Write a .solverstate and a .caffemodel (or both as .h5), named after "
         "snapshot_prefix.")
    .def("share_weights", [](S* solver, Net<Dtype>* net) {
      net->ShareTrainedLayersWith(solver->net().get());
    }, nb::arg("net"))
    .def("apply_update", &S::ApplyUpdate)
    .def_prop_ro("param", [](S* solver) -> const SolverParameter& {
      return solver->param();
    });
  DefineKind<SGDSolver<Dtype>, S>(module, "SGDSolver")
    .def_prop_ro("lr", &SGDSolver<Dtype>::GetLearningRate);
  typedef SGDSolver<Dtype> SGD;
  DefineKind<NesterovSolver<Dtype>, SGD>(module, "NesterovSolver");
  DefineKind<AdaGradSolver<Dtype>, SGD>(module, "AdaGradSolver");
  DefineKind<RMSPropSolver<Dtype>, SGD>(module, "RMSPropSolver");
  DefineKind<AdaDeltaSolver<Dtype>, SGD>(module, "AdaDeltaSolver");
  DefineKind<AdamSolver<Dtype>, SGD>(module, "AdamSolver");
  module->def("get_solver", &GetSolver, nb::arg("filename"),
              "Makes the solver that a prototxt describes, of its kind.");
}

}  // namespace caffe
