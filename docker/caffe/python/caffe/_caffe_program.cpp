// tools/caffe.cpp as a function, for _caffe_tool.cpp. The program caffe loads
// this module, too, for layers written in Python, and shall not notice: all
// names are this file's own, and gflags hears of flags that it knows from there
// when the function runs, not when the module is loaded.
#include <gflags/gflags.h>
#include <glog/logging.h>

#include <cstring>
#include <map>
#include <string>
#include <vector>

#include "boost/algorithm/string.hpp"
#include "caffe/caffe.hpp"
#include "caffe/util/blas_kernel.hpp"
#include "caffe/util/signal_handler.h"

typedef std::vector<void (*)()> Definitions;

static Definitions& definitions() {
  static Definitions* const all = new Definitions;
  return *all;
}

static bool Later(void (*define)()) {
  definitions().push_back(define);
  return true;
}

#define DEFINE_LATER(type, name, value, help) \
  static type FLAGS_##name = value; \
  static type default_of_##name = value; \
  static const bool later_##name = Later([] { \
    new gflags::FlagRegisterer(#name, help, __FILE__, &FLAGS_##name, \
                               &default_of_##name); \
  })

#undef DEFINE_string
#undef DEFINE_int32
#define DEFINE_string(name, value, help) \
  DEFINE_LATER(std::string, name, value, help)
#define DEFINE_int32(name, value, help) \
  DEFINE_LATER(gflags::int32, name, value, help)
#define main caffe_main
namespace {
#include "../../tools/caffe.cpp"  // NOLINT(build/include)
}  // namespace

// Run the program caffe, once in a process; its exit status.
int run_caffe(int argc, char** argv) {
  for (void (*define)() : definitions()) { define(); }
  return caffe_main(argc, argv);
}
