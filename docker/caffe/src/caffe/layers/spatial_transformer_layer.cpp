#include <cmath>
#include <vector>

#include "caffe/layers/spatial_transformer_layer.hpp"
#include "caffe/util/math_functions.hpp"

namespace caffe {

// A pixel's share in a bilinear sample, and the share's derivatives with
// respect to the place (x, y) of the sample.
template <typename Dtype>
struct Neighbour {
  int index;
  Dtype weight, slope_x, slope_y;
};

// The coordinate of pixel i of n, from -1 to 1, and back.
template <typename Dtype>
static Dtype to_unit(int i, int n) {
  return Dtype(2 * i + 1) / n - 1;
}

template <typename Dtype>
static Dtype to_pixel(Dtype unit, int n) {
  return ((unit + 1) * n - 1) / 2;
}

// Fills in the neighbours of a place (in pixels) that are inside the image,
// and returns how many they are: none to four.
template <typename Dtype>
static int neighbours(Dtype x, Dtype y, int height, int width,
    Neighbour<Dtype>* found) {
  // In this form the comparison is false for NaN, too.
  if (!(x > -1 && x < width && y > -1 && y < height)) {
    return 0;
  }
  const int left = static_cast<int>(std::floor(x));
  const int above = static_cast<int>(std::floor(y));
  int count = 0;
  for (int row = above; row <= above + 1; ++row) {
    for (int column = left; column <= left + 1; ++column) {
      if (row >= 0 && row < height && column >= 0 && column < width) {
        const Dtype share_x = 1 - std::abs(x - column);
        const Dtype share_y = 1 - std::abs(y - row);
        const Neighbour<Dtype> neighbour = { row * width + column,
            share_x * share_y, (column == left ? -1 : 1) * share_y,
            (row == above ? -1 : 1) * share_x };
        found[count++] = neighbour;
      }
    }
  }
  return count;
}

template <typename Dtype>
void SpatialTransformerLayer<Dtype>::Reshape(
    const vector<Blob<Dtype>*>& bottom, const vector<Blob<Dtype>*>& top) {
  CHECK_EQ(bottom[0]->num_axes(), 4) << "images must have 4 axes";
  CHECK_GE(bottom[1]->num_axes(), 2);
  CHECK_EQ(bottom[1]->count(1), 6) << "an affine transformation has 6 numbers";
  const int images = bottom[0]->shape(0);
  const int glimpses = bottom[1]->shape(0);
  CHECK(images == glimpses || images == 1) << glimpses
      << " transformations for " << images << " images";
  const SpatialTransformerParameter& param =
      this->layer_param_.spatial_transformer_param();
  vector<int> shape(bottom[0]->shape());
  shape[0] = glimpses;
  if (param.has_output_h()) {
    shape[2] = param.output_h();
  }
  if (param.has_output_w()) {
    shape[3] = param.output_w();
  }
  top[0]->Reshape(shape);
}

template <typename Dtype>
void SpatialTransformerLayer<Dtype>::Forward_cpu(
    const vector<Blob<Dtype>*>& bottom, const vector<Blob<Dtype>*>& top) {
  const int channels = bottom[0]->shape(1);
  const int height = bottom[0]->shape(2);
  const int width = bottom[0]->shape(3);
  const int rows = top[0]->shape(2);
  const int columns = top[0]->shape(3);
  const int image_step = bottom[0]->shape(0) == 1 ? 0 : bottom[0]->count(1);
  const Dtype* images = bottom[0]->cpu_data();
  const Dtype* theta = bottom[1]->cpu_data();
  Dtype* glimpse = top[0]->mutable_cpu_data();
  Neighbour<Dtype> near[4];
  for (int m = 0; m < top[0]->shape(0); ++m, theta += 6,
       glimpse += top[0]->count(1)) {
    for (int i = 0; i < rows; ++i) {
      const Dtype v = to_unit<Dtype>(i, rows);
      for (int j = 0; j < columns; ++j) {
        const Dtype u = to_unit<Dtype>(j, columns);
        const int count = neighbours(
            to_pixel(theta[0] * u + theta[1] * v + theta[2], width),
            to_pixel(theta[3] * u + theta[4] * v + theta[5], height),
            height, width, near);
        for (int c = 0; c < channels; ++c) {
          const Dtype* image = images + m * image_step + c * height * width;
          Dtype sum = 0;
          for (int k = 0; k < count; ++k) {
            sum += near[k].weight * image[near[k].index];
          }
          glimpse[(c * rows + i) * columns + j] = sum;
        }
      }
    }
  }
}

template <typename Dtype>
void SpatialTransformerLayer<Dtype>::Backward_cpu(
    const vector<Blob<Dtype>*>& top, const vector<bool>& propagate_down,
    const vector<Blob<Dtype>*>& bottom) {
  if (!propagate_down[0] && !propagate_down[1]) {
    return;
  }
  const int channels = bottom[0]->shape(1);
  const int height = bottom[0]->shape(2);
  const int width = bottom[0]->shape(3);
  const int rows = top[0]->shape(2);
  const int columns = top[0]->shape(3);
  const int image_step = bottom[0]->shape(0) == 1 ? 0 : bottom[0]->count(1);
  const Dtype* images = bottom[0]->cpu_data();
  const Dtype* theta = bottom[1]->cpu_data();
  const Dtype* glimpse_diff = top[0]->cpu_diff();
  Dtype* images_diff = NULL;
  if (propagate_down[0]) {
    images_diff = bottom[0]->mutable_cpu_diff();
    caffe_set(bottom[0]->count(), Dtype(0), images_diff);
  }
  Dtype* theta_diff = bottom[1]->mutable_cpu_diff();
  caffe_set(bottom[1]->count(), Dtype(0), theta_diff);
  Neighbour<Dtype> near[4];
  for (int m = 0; m < top[0]->shape(0); ++m, theta += 6, theta_diff += 6,
       glimpse_diff += top[0]->count(1)) {
    for (int i = 0; i < rows; ++i) {
      const Dtype v = to_unit<Dtype>(i, rows);
      for (int j = 0; j < columns; ++j) {
        const Dtype u = to_unit<Dtype>(j, columns);
        const int count = neighbours(
            to_pixel(theta[0] * u + theta[1] * v + theta[2], width),
            to_pixel(theta[3] * u + theta[4] * v + theta[5], height),
            height, width, near);
        Dtype slope_x = 0;
        Dtype slope_y = 0;
        for (int c = 0; c < channels; ++c) {
          const int plane = m * image_step + c * height * width;
          const Dtype diff = glimpse_diff[(c * rows + i) * columns + j];
          for (int k = 0; k < count; ++k) {
            const Dtype pixel = images[plane + near[k].index];
            slope_x += diff * pixel * near[k].slope_x;
            slope_y += diff * pixel * near[k].slope_y;
            if (images_diff) {
              images_diff[plane + near[k].index] += diff * near[k].weight;
            }
          }
        }
        // A unit of theta's coordinates is half an image.
        slope_x *= Dtype(width) / 2;
        slope_y *= Dtype(height) / 2;
        theta_diff[0] += slope_x * u;
        theta_diff[1] += slope_x * v;
        theta_diff[2] += slope_x;
        theta_diff[3] += slope_y * u;
        theta_diff[4] += slope_y * v;
        theta_diff[5] += slope_y;
      }
    }
  }
}

INSTANTIATE_CLASS(SpatialTransformerLayer);
REGISTER_LAYER_CLASS(SpatialTransformer);

}  // namespace caffe
