// The program caffe, and upstream's others, inside pycaffe.
#include <nanobind/stl/vector.h>

#include "caffe/_caffe_gil.hpp"

// Of _caffe_program.cpp.
int run_tool(int argc, char** argv);
std::vector<std::string> tool_names();

namespace caffe {

static int RunTool(const std::vector<nb::bytes>& words) {
  if (words.empty()) { throw std::invalid_argument("no program is named"); }
  vector<string> arguments;
  for (const nb::bytes& word : words) {
    arguments.push_back(string(word.c_str(), word.size()));
  }
  vector<char*> argv;
  for (string& argument : arguments) { argv.push_back(&argument[0]); }
  argv.push_back(NULL);
  ReleaseGIL release;
  return run_tool(arguments.size(), argv.data());
}

static nb::list ToolNames() {
  nb::list names;
  for (const string& name : tool_names()) {
    names.append(nb::str(name.c_str()));
  }
  return names;
}

void DefineTool(nb::module_* module) {
  module->def("_run_tool", &RunTool, nb::arg("arguments"),
              "Runs the program that the first argument names, once in a "
              "process: its exit status.");
  module->def("_tool_names", &ToolNames,
              nb::sig("def _tool_names() -> list[str]"),
              "Those that _run_tool knows.");
}

}  // namespace caffe
