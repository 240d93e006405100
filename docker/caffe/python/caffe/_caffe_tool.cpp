// The program caffe inside pycaffe.
#include <nanobind/stl/vector.h>

#include "caffe/_caffe_gil.hpp"

int run_caffe(int argc, char** argv);  // _caffe_program.cpp

namespace caffe {

static int RunTool(const std::vector<nb::bytes>& words) {
  vector<string> arguments;
  for (const nb::bytes& word : words) {
    arguments.push_back(string(word.c_str(), word.size()));
  }
  vector<char*> argv;
  for (string& argument : arguments) { argv.push_back(&argument[0]); }
  argv.push_back(NULL);
  ReleaseGIL release;
  return run_caffe(arguments.size(), argv.data());
}

void DefineTool(nb::module_* module) {
  module->def("_run_tool", &RunTool, nb::arg("arguments"),
              "Runs the program caffe, once in a process: its exit status.");
}

}  // namespace caffe
