#include "caffe/util/pixels.hpp"

#include <stdint.h>

#include <algorithm>

namespace caffe {

static const int kPart = 256;  // of a row that is mirrored: stays in L1

// kChannels of a row's channels, of which a pixel has `step`.
template <int kChannels, bool kRows, typename Source, typename Dtype>
__attribute__((always_inline)) static inline void transform_channels(
    const Source* pixels, int step, int width, const Dtype* const* means,
    Dtype scale, Dtype* const* rows) {
  const int second = kChannels > 1 ? 1 : 0, third = kChannels > 2 ? 2 : 0;
  const Dtype *mean0 = means[0], *mean1 = means[second], *mean2 = means[third];
  const Dtype flat0 = *mean0, flat1 = *mean1, flat2 = *mean2;
  Dtype *row0 = rows[0], *row1 = rows[second], *row2 = rows[third];
#pragma omp simd
  for (int w = 0; w < width; ++w) {
    const Source* pixel = pixels + w * step;
    row0[w] = (Dtype(pixel[0]) - (kRows ? mean0[w] : flat0)) * scale;
    if (kChannels == 3) {
      row1[w] = (Dtype(pixel[1]) - (kRows ? mean1[w] : flat1)) * scale;
      row2[w] = (Dtype(pixel[2]) - (kRows ? mean2[w] : flat2)) * scale;
    }
  }
}

template <int kChannels, bool kRows, typename Source, typename Dtype>
__attribute__((always_inline)) static inline void transform_or_mirror(
    const Source* pixels, int step, int width,
    const PixelTransform<Dtype>& transform, const Dtype* const* means,
    Dtype* const* rows) {
  if (!transform.mirror) {
    transform_channels<kChannels, kRows>(pixels, step, width, means,
        transform.scale, rows);
    return;
  }
  for (int start = 0; start < width; start += kPart) {
    const int count = std::min(kPart, width - start);
    Dtype parts[kChannels][kPart];
    Dtype* part_rows[kChannels];
    const Dtype* part_means[kChannels];
    for (int c = 0; c < kChannels; ++c) {
      part_rows[c] = parts[c];
      part_means[c] = means[c] + (kRows ? start : 0);
    }
    transform_channels<kChannels, kRows>(pixels + start * step, step, count,
        part_means, transform.scale, part_rows);
    for (int c = 0; c < kChannels; ++c) {
      const Dtype* part = parts[c];
      Dtype* last = rows[c] + width - 1 - start;
#pragma omp simd
      for (int w = 0; w < count; ++w) { last[-w] = part[w]; }
    }
  }
}

template <bool kRows, typename Source, typename Dtype>
__attribute__((always_inline)) static inline void transform_row(
    const Source* pixels, int channels, int width,
    const PixelTransform<Dtype>& transform, Dtype* const* rows) {
  const Dtype* const* means = transform.means;
  if (channels == 3) {
    transform_or_mirror<3, kRows>(pixels, 3, width, transform, means, rows);
  } else if (channels == 1) {
    transform_or_mirror<1, kRows>(pixels, 1, width, transform, means, rows);
  } else {
    for (int c = 0; c < channels; ++c) {
      transform_or_mirror<1, kRows>(pixels + c, channels, width, transform,
          means + c, rows + c);
    }
  }
}

template <typename Source, typename Dtype>
__attribute__((always_inline)) static inline void transform_any_row(
    const Source* pixels, int channels, int width,
    const PixelTransform<Dtype>& transform, Dtype* const* rows) {
  if (transform.has_mean_rows) {
    transform_row<true>(pixels, channels, width, transform, rows);
  } else {
    transform_row<false>(pixels, channels, width, transform, rows);
  }
}

#ifdef __x86_64__
template <typename Source, typename Dtype>
__attribute__((target("avx2"))) static void transform_row_avx2(
    const Source* pixels, int channels, int width,
    const PixelTransform<Dtype>& transform, Dtype* const* rows) {
  transform_any_row(pixels, channels, width, transform, rows);
}
#endif

template <typename Source, typename Dtype>
void TransformRow(const Source* pixels, int channels, int width,
    const PixelTransform<Dtype>& transform, Dtype* const* rows) {
#ifdef __x86_64__
  static const bool has_avx2 = __builtin_cpu_supports("avx2");
  if (has_avx2) {
    return transform_row_avx2(pixels, channels, width, transform, rows);
  }
#endif
  transform_any_row(pixels, channels, width, transform, rows);
}

template void TransformRow(const uint8_t* pixels, int channels, int width,
    const PixelTransform<float>& transform, float* const* rows);
template void TransformRow(const uint8_t* pixels, int channels, int width,
    const PixelTransform<double>& transform, double* const* rows);
template void TransformRow(const float* pixels, int channels, int width,
    const PixelTransform<float>& transform, float* const* rows);
template void TransformRow(const float* pixels, int channels, int width,
    const PixelTransform<double>& transform, double* const* rows);

}  // namespace caffe
