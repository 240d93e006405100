// The programs of tools/ as functions, for _caffe_tool.cpp. The program caffe
// loads this module, too, for layers written in Python, and shall not notice:
// all names are this file's own, and gflags hears of flags that it knows from
// there when a function runs, not when the module is loaded.
#include <gflags/gflags.h>
#include <glog/logging.h>
#include <google/protobuf/text_format.h>
#include <stdint.h>

#include <algorithm>
#include <cstring>
#include <fstream>  // NOLINT(readability/streams)
#include <iostream>  // NOLINT(readability/streams)
#include <map>
#include <string>
#include <utility>
#include <vector>

#include "boost/algorithm/string.hpp"
#include "boost/scoped_ptr.hpp"
#include "caffe/caffe.hpp"
#include "caffe/util/blas_kernel.hpp"
#include "caffe/util/db.hpp"
#include "caffe/util/format.hpp"
#include "caffe/util/io.hpp"
#include "caffe/util/rng.hpp"
#include "caffe/util/signal_handler.h"
#include "caffe/util/upgrade_proto.hpp"

// The flags of each program, which has a namespace of its own.
typedef std::vector<void (*)()> Definitions;

#define DEFINE_LATER(type, name, value, help) \
  static type FLAGS_##name = value; \
  static type default_of_##name = value; \
  static const bool later_##name = (definitions.push_back([] { \
    new gflags::FlagRegisterer(#name, help, __FILE__, &FLAGS_##name, \
                               &default_of_##name); \
  }), true)

#undef DEFINE_bool
#undef DEFINE_string
#undef DEFINE_int32
#define DEFINE_bool(name, value, help) DEFINE_LATER(bool, name, value, help)
#define DEFINE_string(name, value, help) \
  DEFINE_LATER(std::string, name, value, help)
#define DEFINE_int32(name, value, help) \
  DEFINE_LATER(gflags::int32, name, value, help)
#define main tool_main

namespace {

namespace caffe_tool {
Definitions definitions;
#include "../../tools/caffe.cpp"  // NOLINT(build/include)
}
namespace compute_image_mean {
Definitions definitions;
#include "../../tools/compute_image_mean.cpp"  // NOLINT(build/include)
}
namespace convert_imageset {
Definitions definitions;
#include "../../tools/convert_imageset.cpp"  // NOLINT(build/include)
}
namespace extract_features {
Definitions definitions;
#include "../../tools/extract_features.cpp"  // NOLINT(build/include)
}
namespace upgrade_net_proto_binary {
Definitions definitions;
#include "../../tools/upgrade_net_proto_binary.cpp"  // NOLINT(build/include)
}
namespace upgrade_net_proto_text {
Definitions definitions;
#include "../../tools/upgrade_net_proto_text.cpp"  // NOLINT(build/include)
}
namespace upgrade_solver_proto_text {
Definitions definitions;
#include "../../tools/upgrade_solver_proto_text.cpp"  // NOLINT(build/include)
}

struct Program {
  const char* name;
  const Definitions* definitions;
  int (*main)(int, char**);
};

#define PROGRAM(name, place) { name, &place::definitions, &place::tool_main }
const Program programs[] = {
  PROGRAM("caffe", caffe_tool),
  PROGRAM("compute_image_mean", compute_image_mean),
  PROGRAM("convert_imageset", convert_imageset),
  PROGRAM("extract_features", extract_features),
  PROGRAM("upgrade_net_proto_binary", upgrade_net_proto_binary),
  PROGRAM("upgrade_net_proto_text", upgrade_net_proto_text),
  PROGRAM("upgrade_solver_proto_text", upgrade_solver_proto_text),
};

}  // namespace

// The names of the programs.
std::vector<std::string> tool_names() {
  std::vector<std::string> names;
  for (const Program& program : programs) { names.push_back(program.name); }
  return names;
}

// Run the program that the first argument names, once in a process; its exit
// status. It is 1 if there is none of this name.
int run_tool(int argc, char** argv) {
  for (const Program& program : programs) {
    if (strcmp(program.name, argv[0]) == 0) {
      for (void (*define)() : *program.definitions) { define(); }
      return program.main(argc, argv);
    }
  }
  LOG(ERROR) << "There is no program " << argv[0];
  return 1;
}
