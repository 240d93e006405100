#ifndef CAFFE_UTIL_VECTORS_HPP_
#define CAFFE_UTIL_VECTORS_HPP_

#include <cstring>

// GCC's vector extensions, for files that are compiled for one set of
// instructions: they include this below their "#pragma GCC target".
#define ALWAYS_INLINE __attribute__((always_inline)) static inline

namespace caffe {

// Vectors of so many floats. `stream` writes one past the caches.
template <int Width> struct Vectors;
template <> struct Vectors<8> {
  typedef float Type __attribute__((vector_size(32)));
  typedef int Mask __attribute__((vector_size(32)));
  ALWAYS_INLINE void stream(float* to, const Type& value) {
    __builtin_ia32_movntps256(to, value);
  }
};
template <> struct Vectors<16> {
  typedef float Type __attribute__((vector_size(64)));
  typedef int Mask __attribute__((vector_size(64)));
  template <typename To>  // compiled only where it is called
  ALWAYS_INLINE void stream(To* to, const Type& value) {
    __builtin_ia32_movntps512(to, value);
  }
};

template <typename V>
ALWAYS_INLINE V load(const float* from) {
  V value;
  memcpy(&value, from, sizeof(value));
  return value;
}

template <typename V>
ALWAYS_INLINE void store(float* to, const V& value) {
  memcpy(to, &value, sizeof(value));
}

}  // namespace caffe

#endif  // CAFFE_UTIL_VECTORS_HPP_
