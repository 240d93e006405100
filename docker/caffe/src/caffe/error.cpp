#include "caffe/error.hpp"

#include <atomic>
#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <exception>
#include <new>
#include <sstream>
#include <string>

namespace caffe {

static std::atomic<bool> throws(false);

void ThrowErrors(bool on) { throws = on; }

std::string OneLine(const std::string& text) {
  std::istringstream lines(text);
  std::string all, line;
  while (std::getline(lines, line)) {
    const size_t first = line.find_first_not_of(" \t\r");
    if (first == std::string::npos) { continue; }
    const size_t last = line.find_last_not_of(" \t\r");
    all += (all.empty() ? "" : " ") + line.substr(first, last - first + 1);
  }
  return all;
}

std::string OneLine(const std::exception& error) {
  if (dynamic_cast<const std::bad_alloc*>(&error)) { return "out of memory"; }
  const std::string line = OneLine(std::string(error.what()));
  return line.empty() ? "unknown error" : line;
}

static const char* BaseName(const char* file) {
  const char* slash = strrchr(file, '/');
  return slash ? slash + 1 : file;
}

FatalMessage::FatalMessage(const char* file, int line) : stream_(file, line) {}

FatalMessage::FatalMessage(const char* file, int line, std::string* failed)
    : stream_(file, line) {
  stream_ << *failed;
  delete failed;
}

void Fail::operator&(std::ostream& message) const {
  const FatalMessage::Stream& stream =
      static_cast<FatalMessage::Stream&>(message);
  if (!throws) {
    ::google::LogMessageFatal(stream.file, stream.line).stream()
        << stream.str();
  }
  std::ostringstream where;
  where << " (" << BaseName(stream.file) << ":" << stream.line << ")";
  throw Error(OneLine(stream.str()) + where.str());
}

std::string ErrnoText() {
  const int error = errno;
  std::ostringstream text;
  text << ": " << strerror(error) << " [" << error << "]";
  return text.str();
}

void Halfway::Check() const {
  if (!what_.empty()) {
    throw Error("this " + kind_ + " failed before, make a new one: " + what_);
  }
}

void Halfway::Note(const std::string& what) {
  what_ = what;
}

// As glog logs what ends a program: the place before the text, not after it.
static void LogError(const std::exception& error) {
  const std::string text = OneLine(error);
  const size_t place = text.rfind(" ("), line = text.rfind(':');
  if (dynamic_cast<const Error*>(&error) && text.back() == ')' &&
      place != std::string::npos && place < line && line < text.size()) {
    const std::string file = text.substr(place + 2, line - place - 2);
    ::google::LogMessage(file.c_str(), atoi(text.c_str() + line + 1),
        ::google::GLOG_ERROR).stream() << text.substr(0, place);
  } else {
    LOG(ERROR) << text;
  }
}

int RunProgram(int (*program)(int, char**), int argc, char** argv) {
  ThrowErrors(true);
  try {
    return program(argc, argv);
  } catch (const std::exception& error) {
    LogError(error);
    return 1;
  } catch (const PythonError& error) {
    error.Print();
    return 1;
  }
}

}  // namespace caffe
