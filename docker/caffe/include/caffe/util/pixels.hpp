#ifndef CAFFE_UTIL_PIXELS_HPP_
#define CAFFE_UTIL_PIXELS_HPP_

namespace caffe {

/// What pixels become on their way into a net: (value - mean) * scale.
template <typename Dtype>
struct PixelTransform {
  /// For each channel its mean, or with has_mean_rows a row of means.
  const Dtype* const* means;
  bool has_mean_rows;
  Dtype scale;
  bool mirror;
};

/**
 * @brief Transforms a row of pixels whose channels are interleaved into a row
 *        per channel, of Dtype. Source is uint8_t or float.
 *
 * Each value has the bits of (Dtype(value) - mean) * scale on every CPU.
 */
template <typename Source, typename Dtype>
void TransformRow(const Source* pixels, int channels, int width,
    const PixelTransform<Dtype>& transform, Dtype* const* rows);

}  // namespace caffe

#endif  // CAFFE_UTIL_PIXELS_HPP_
