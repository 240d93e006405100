// tools/caffe.cpp as a function, for _caffe_tool.cpp. gflags hears of its flags
// when it runs, not when this module is loaded: the program caffe, which loads
// it for layers written in Python, has made known the same ones already.
#include <gflags/gflags.h>

#include <string>
#include <vector>

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
#include "../../tools/caffe.cpp"  // NOLINT(build/include)

// Run the program caffe, once in a process; its exit status.
int run_caffe(int argc, char** argv) {
  for (void (*define)() : definitions()) { define(); }
  return caffe_main(argc, argv);
}
