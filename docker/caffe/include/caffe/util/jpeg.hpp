#ifndef CAFFE_UTIL_JPEG_HPP_
#define CAFFE_UTIL_JPEG_HPP_

#ifdef USE_OPENCV
#include <string>

#include <opencv2/core/core.hpp>

namespace caffe {

/**
 * @brief Decodes a plain JPEG with libjpeg-turbo to the pixels (BGR) that
 *        OpenCV makes of it, in half of OpenCV 4.6's time.
 *
 * Plain is what has three channels, YCbCr, is neither turned by EXIF data nor
 * too large for OpenCV, and is decoded without a warning.
 * @return false for all else, of which OpenCV has to make what it can.
 */
bool DecodePlainJpeg(const std::string& data, cv::Mat* bgr);

}  // namespace caffe
#endif  // USE_OPENCV

#endif  // CAFFE_UTIL_JPEG_HPP_
