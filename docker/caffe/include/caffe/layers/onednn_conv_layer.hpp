#ifndef CAFFE_ONEDNN_CONV_LAYER_HPP_
#define CAFFE_ONEDNN_CONV_LAYER_HPP_
#ifdef USE_ONEDNN

#include <vector>

#include "caffe/layers/conv_layer.hpp"
#include "caffe/util/onednn.hpp"
#include "caffe/util/winograd.hpp"

namespace caffe {

/**
 * @brief The Convolution layer on the CPU, computed directly by oneDNN, or with
 *        Winograd's algorithm (util/winograd.hpp) where that is faster: 3 x 3
 *        filters, and CAFFE_ONEDNN is not "direct".
 *
 * What neither is used for here - groups, dilation, other than two spatial axes
 * - ConvolutionLayer computes.
 */
class OneDnnConvolutionLayer : public ConvolutionLayer<float> {
 public:
  explicit OneDnnConvolutionLayer(const LayerParameter& param);
  virtual ~OneDnnConvolutionLayer();
  virtual void Reshape(const vector<Blob<float>*>& bottom,
      const vector<Blob<float>*>& top);

 protected:
  virtual void Forward_cpu(const vector<Blob<float>*>& bottom,
      const vector<Blob<float>*>& top);
  virtual void Backward_cpu(const vector<Blob<float>*>& top,
      const vector<bool>& propagate_down, const vector<Blob<float>*>& bottom);

 private:
  struct Plan;  // what computes one shape of the blobs

  bool Fits(const Blob<float>& bottom);
  void RunWinograd(const winograd::Winograd& convolution,
      const dnnl::memory& from, const float* bias, const dnnl::memory& to,
      onednn::Parameters* kept_weights);
  void ForwardWinograd(Blob<float>* bottom, Blob<float>* top);
  void BackwardParametersWinograd(Blob<float>* top, Blob<float>* bottom);
  void BackwardDataWinograd(Blob<float>* top, Blob<float>* bottom);
  void BackwardParameters(Blob<float>* top, Blob<float>* bottom);
  void BackwardData(Blob<float>* top, Blob<float>* bottom);

  shared_ptr<Plan> plan_;  // NULL where the shape does not fit
  onednn::Parameters forward_weights_, backward_weights_;
};

}  // namespace caffe

#endif  // USE_ONEDNN
#endif  // CAFFE_ONEDNN_CONV_LAYER_HPP_
