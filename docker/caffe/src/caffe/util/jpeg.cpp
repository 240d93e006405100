#ifdef USE_OPENCV
#include "caffe/util/jpeg.hpp"

#include <setjmp.h>
#include <stdio.h>

#include <jpeglib.h>

#include <algorithm>
#include <string>

namespace caffe {

#ifdef JCS_EXTENSIONS  // libjpeg-turbo
static const int kExif = JPEG_APP0 + 1;
static const int64_t kMostPixels = 1 << 30;  // OpenCV's default
static const JDIMENSION kRowsAtOnce = 16;

// A decoder that goes out of scope whatever happens. libjpeg is C, so that
// errors leave it by longjmp: no object may be made between.
class JpegDecoder {
 public:
  explicit JpegDecoder(const std::string& data) : data_(data), created_(false) {
    info_.err = jpeg_std_error(&errors_);
    errors_.error_exit = Leave;
    errors_.emit_message = Emit;
    info_.client_data = this;
  }
  ~JpegDecoder() {
    if (created_) { jpeg_destroy_decompress(&info_); }
  }

  // Reads the header. false if this is no plain JPEG.
  bool Start() {
    if (setjmp(failed_)) { return false; }
    jpeg_create_decompress(&info_);
    created_ = true;
    jpeg_mem_src(&info_, reinterpret_cast<unsigned char*>(
        const_cast<char*>(data_.data())), data_.size());
    jpeg_save_markers(&info_, kExif, 0xffff);
    jpeg_read_header(&info_, TRUE);
    info_.out_color_space = JCS_EXT_BGR;
    return info_.num_components == 3 &&
        info_.jpeg_color_space == JCS_YCbCr && !info_.marker_list &&
        static_cast<int64_t>(info_.image_width) * info_.image_height <=
        kMostPixels;
  }

  // Decodes into rows that are `step` bytes apart.
  bool Decode(unsigned char* pixels, size_t step) {
    if (setjmp(failed_)) { return false; }
    jpeg_start_decompress(&info_);
    while (info_.output_scanline < info_.output_height) {
      JSAMPROW rows[kRowsAtOnce];
      const JDIMENSION count = std::min(kRowsAtOnce,
          info_.output_height - info_.output_scanline);
      for (JDIMENSION i = 0; i < count; ++i) {
        rows[i] = pixels + (info_.output_scanline + i) * step;
      }
      if (!jpeg_read_scanlines(&info_, rows, count)) { return false; }
    }
    jpeg_finish_decompress(&info_);
    return errors_.num_warnings == 0;
  }

  int width() const { return info_.image_width; }
  int height() const { return info_.image_height; }

 private:
  static void Leave(j_common_ptr info) {
    longjmp(static_cast<JpegDecoder*>(info->client_data)->failed_, 1);
  }
  // Warnings, at which there is no need to go on, and traces.
  static void Emit(j_common_ptr info, int level) {
    if (level < 0) { Leave(info); }
  }

  const std::string& data_;
  bool created_;
  jpeg_decompress_struct info_;
  jpeg_error_mgr errors_;
  jmp_buf failed_;
};

bool DecodePlainJpeg(const std::string& data, cv::Mat* bgr) {
  JpegDecoder decoder(data);
  if (!decoder.Start()) { return false; }
  bgr->create(decoder.height(), decoder.width(), CV_8UC3);
  return decoder.Decode(bgr->data, bgr->step);
}
#else
bool DecodePlainJpeg(const std::string& data, cv::Mat* bgr) {
  return false;
}
#endif  // JCS_EXTENSIONS

}  // namespace caffe
#endif  // USE_OPENCV
