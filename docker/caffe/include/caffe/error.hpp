#ifndef CAFFE_ERROR_HPP_
#define CAFFE_ERROR_HPP_

#include <glog/logging.h>

#include <exception>
#include <sstream>
#include <stdexcept>
#include <string>

/**
 * What happens when a CHECK fails, or at LOG(FATAL): an Error is thrown where
 * the program has asked for that by ThrowErrors, as pycaffe and the tools do.
 * Elsewhere the process ends as it always did, by glog.
 *
 * glog's own fatal messages cannot throw: they end in a destructor. So this
 * header gives CHECK, CHECK_EQ and its like, PCHECK, CHECK_NOTNULL and
 * LOG(FATAL) another meaning after glog's header; caffe/common.hpp includes it.
 *
 * To keep in mind: a destructor must not CHECK (LOG(ERROR) there), neither may
 * what runs inside an OpenMP region; a thread has to catch what it throws and
 * hand it to whoever waits for it, as InternalThread does.
 */
namespace caffe {

/// @brief What went wrong, in one line; where in the source is at its end.
class Error : public std::runtime_error {
 public:
  explicit Error(const std::string& what) : std::runtime_error(what) {}
};

/// @brief Whether, from now on, failed checks of all threads throw an Error.
void ThrowErrors(bool on);

/// @brief The text with spaces for its line breaks.
std::string OneLine(const std::string& text);

/// @brief What an exception says, in one line.
std::string OneLine(const std::exception& error);

/**
 * @brief What Python raised, on its way through Caffe: in a layer, or in a
 *        callback.
 *
 * It is no std::exception, since it is no error of Caffe's: nets and solvers go
 * on after it. pycaffe throws it, and makes a Python error of it again.
 */
class PythonError {
 public:
  virtual ~PythonError() {}
  /// @brief Prints it with its traceback, as Python does at its end.
  virtual void Print() const = 0;
};

/// @brief Runs a program. What is thrown is logged as an error, one line, and
///        is exit status 1; what Python raised is printed.
int RunProgram(int (*program)(int, char**), int argc, char** argv);

/**
 * @brief Remembers that something failed halfway, and is not to be used again.
 *
 * Only what C++ throws counts: Python layers may raise whatever they like, and
 * the net goes on.
 */
class Halfway {
 public:
  /// @brief kind names what this belongs to: "Net".
  explicit Halfway(const std::string& kind) : kind_(kind) {}

  /// @brief Throws, ever after work failed, an Error that says so.
  void Check() const;

  template <typename Work>
  void Run(Work work) {
    Check();
    try {
      work();
    } catch (const std::exception& error) {
      Note(OneLine(error));
      throw;
    }
  }

 private:
  void Note(const std::string& what);

  const std::string kind_;
  std::string what_;
};

/// @brief The text of a fatal message, while it is written.
class FatalMessage {
 public:
  FatalMessage(const char* file, int line);
  /// @brief Begins with what failed, which is deleted.
  FatalMessage(const char* file, int line, std::string* failed);
  std::ostream& stream() { return stream_; }

 private:
  class Stream : public std::ostringstream {
   public:
    Stream(const char* file, int line) : file(file), line(line) {}
    const char* const file;
    const int line;
  };
  Stream stream_;

  friend struct Fail;
};

/// @brief Fail() & FatalMessage(...).stream() << "text": throws, or aborts.
struct Fail {
  __attribute__((noreturn)) void operator&(std::ostream& message) const;
};

/// @brief ": Permission denied [13]" of errno, as glog's PCHECK has it.
std::string ErrnoText();

template <typename A, typename B>
__attribute__((noinline, cold))
std::string* FailedComparison(const A& a, const B& b, const char* text) {
  std::ostringstream stream;
  stream << "Check failed: " << text << " (" << a << " vs. " << b << ") ";
  return new std::string(stream.str());
}

// By value where that can be: static const members have no address.
inline int Operand(int value) { return value; }
inline unsigned Operand(unsigned value) { return value; }
inline long Operand(long value) { return value; }  // NOLINT(runtime/int)
inline unsigned long Operand(unsigned long value) {  // NOLINT(runtime/int)
  return value;
}
template <typename T> inline const T& Operand(const T& value) { return value; }

#define CAFFE_COMPARISON(name, op) \
  template <typename A, typename B> \
  inline std::string* Compare##name(const A& a, const B& b, const char* text) {\
    return __builtin_expect(static_cast<bool>(a op b), 1) ? NULL : \
        FailedComparison(a, b, text); \
  }
CAFFE_COMPARISON(EQ, ==)
CAFFE_COMPARISON(NE, !=)
CAFFE_COMPARISON(LE, <=)
CAFFE_COMPARISON(LT, <)
CAFFE_COMPARISON(GE, >=)
CAFFE_COMPARISON(GT, >)
#undef CAFFE_COMPARISON

template <typename T>
inline T NotNull(const char* file, int line, const char* text, T value) {
  if (value == NULL) {
    Fail() & FatalMessage(file, line).stream() << text << " Must be non NULL";
  }
  return value;
}

}  // namespace caffe

#define CAFFE_FATAL ::caffe::Fail() & ::caffe::FatalMessage(__FILE__, __LINE__)

#undef COMPACT_GOOGLE_LOG_FATAL  // what LOG(FATAL) is made of
#define COMPACT_GOOGLE_LOG_FATAL CAFFE_FATAL

#undef CHECK
#define CHECK(condition) \
  __builtin_expect(static_cast<bool>(condition), 1) ? static_cast<void>(0) : \
      CAFFE_FATAL.stream() << "Check failed: " #condition " "

#undef PCHECK
#define PCHECK(condition) \
  __builtin_expect(static_cast<bool>(condition), 1) ? static_cast<void>(0) : \
      CAFFE_FATAL.stream() << "Check failed: " #condition \
          << ::caffe::ErrnoText() << " "

#undef CHECK_OP
#define CHECK_OP(name, op, a, b) \
  while (std::string* caffe_failed = ::caffe::Compare##name( \
      ::caffe::Operand(a), ::caffe::Operand(b), #a " " #op " " #b)) \
    ::caffe::Fail() & \
        ::caffe::FatalMessage(__FILE__, __LINE__, caffe_failed).stream()

#undef CHECK_EQ
#undef CHECK_NE
#undef CHECK_LE
#undef CHECK_LT
#undef CHECK_GE
#undef CHECK_GT
#define CHECK_EQ(a, b) CHECK_OP(EQ, ==, a, b)
#define CHECK_NE(a, b) CHECK_OP(NE, !=, a, b)
#define CHECK_LE(a, b) CHECK_OP(LE, <=, a, b)
#define CHECK_LT(a, b) CHECK_OP(LT, <, a, b)
#define CHECK_GE(a, b) CHECK_OP(GE, >=, a, b)
#define CHECK_GT(a, b) CHECK_OP(GT, >, a, b)

#undef CHECK_NOTNULL
#define CHECK_NOTNULL(value) \
  ::caffe::NotNull(__FILE__, __LINE__, "'" #value "'", (value))

#endif  // CAFFE_ERROR_HPP_
