// OpenBLAS chooses its kernels by the CPU's model number when it is loaded. A
// CPU newer than the library is taken for one of 2004 (Prescott, SSE3), and
// everything runs several times slower. What a kernel needs is not a model,
// though, but instructions, and those the CPU tells. So when this library is
// loaded, and with it OpenBLAS, it compares the two and has OpenBLAS choose
// again where its choice is weaker than the CPU.

#include "caffe/util/blas_kernel.hpp"

#include <cstdlib>

// Exported by every OpenBLAS, and by one with kernels for several CPUs; weak,
// so that other libraries do as well.
extern "C" {
char* openblas_get_corename() __attribute__((weak));
void gotoblas_dynamic_init() __attribute__((weak));
void gotoblas_dynamic_quit() __attribute__((weak));
}

namespace caffe {

// Plain storage: the constructor below may run before those of C++ objects.
static char replaced[32] = "";

std::string blas_kernel() {
  return openblas_get_corename ? openblas_get_corename() : "";
}

std::string blas_kernel_replaced() {
  return replaced;
}

#ifdef __x86_64__

static bool contains(const char* const* names, const std::string& name) {
  for (; *names; ++names) {
    if (name == *names) {
      return true;
    }
  }
  return false;
}

// The best kernel for what the CPU, and the operating system, support if
// `current` makes no use of it; NULL if current is all right.
static const char* better_kernel(const std::string& current) {
  static const char* const kSSE[] = { "Katmai", "Coppermine", "Northwood",
      "Prescott", "Banias", "Atom", "Core2", "Penryn", "Dunnington", "Nehalem",
      "Athlon", "Opteron", "Opteron_SSE3", "Barcelona", "Bobcat", "Nano",
      NULL };
  static const char* const kAVX[] = { "Sandybridge", NULL };
  static const char* const kAVX2[] = { "Haswell", "Zen", NULL };
  const bool sse = contains(kSSE, current);
  const bool avx = contains(kAVX, current);
  const bool avx2 = contains(kAVX2, current);
  __builtin_cpu_init();
  if ((sse || avx || avx2) && __builtin_cpu_supports("avx512f") &&
      __builtin_cpu_supports("avx512cd") &&
      __builtin_cpu_supports("avx512bw") &&
      __builtin_cpu_supports("avx512dq") &&
      __builtin_cpu_supports("avx512vl")) {
    return "SkylakeX";
  }
  if ((sse || avx) && __builtin_cpu_supports("avx2") &&
      __builtin_cpu_supports("fma")) {
    return "Haswell";
  }
  if (sse && __builtin_cpu_supports("avx")) {
    return "Sandybridge";
  }
  return NULL;
}

__attribute__((constructor)) static void choose_blas_kernel() {
  static const char kVariable[] = "OPENBLAS_CORETYPE";
  if (!openblas_get_corename || !gotoblas_dynamic_init ||
      !gotoblas_dynamic_quit || getenv(kVariable)) {
    return;  // nothing to choose from, or the user has chosen
  }
  const std::string current = blas_kernel();
  const char* better = better_kernel(current);
  if (!better) {
    return;
  }
  // The variable is OpenBLAS's only way to be told. It lives for this call
  // only: neither another BLAS in this process nor a child shall inherit it.
  setenv(kVariable, better, 1);
  gotoblas_dynamic_quit();
  gotoblas_dynamic_init();
  unsetenv(kVariable);
  if (blas_kernel() != current) {
    current.copy(replaced, sizeof(replaced) - 1);
  }
}

#endif  // __x86_64__

}  // namespace caffe
