#ifndef CAFFE_ONEDNN_CONV_LAYER_HPP_
#define CAFFE_ONEDNN_CONV_LAYER_HPP_
#ifdef USE_ONEDNN

#include <vector>

#include "caffe/layers/conv_layer.hpp"
#include "caffe/util/onednn.hpp"
#include "caffe/util/onednn_parts.hpp"

namespace caffe {

namespace onednn { struct HeldConvolution; }

/**
 * @brief The Convolution layer on the CPU, computed by oneDNN, by Winograd's
 *        algorithm where that is faster (util/winograd.hpp: 3 x 3 filters, and
 *        CAFFE_ONEDNN is not "direct"), or as matrix products (util/
 *        pointwise.hpp: 1 x 1 filters).
 *
 * What none is used for here - dilation, other than two spatial axes -
 * ConvolutionLayer computes.
 */
class OneDnnConvolutionLayer : public ConvolutionLayer<float> {
 public:
  explicit OneDnnConvolutionLayer(const LayerParameter& param);
  virtual ~OneDnnConvolutionLayer();
  virtual void Reshape(const vector<Blob<float>*>& bottom,
      const vector<Blob<float>*>& top);

  /// Layers behind this one, in the TEST phase, in this order.
  struct Behind {
    vector<Layer<float>*> affine;  // in place: BatchNorm, Scale
    Blob<float>* residual;         // NULL, or what is added to the top,
    Blob<float>* sum;              // which makes this blob
    Layer<float>* rectifier;       // NULL, or ReLU or PReLU, in place
    shared_ptr<onednn::PackedPart> place;  // NULL, or where a Concat wants the
                                           // values, if there is no residual
    bool halved;  // every other pixel of every other row is all that is taken
  };
  /// @brief Forward together with them: what they do is folded into weights and
  ///        bias, or done before the values are written. False, and nothing is
  ///        done, where that can't be. Who asks for the top of a convolution
  ///        with a residual gets what it would be alone, computed then, and so
  ///        does who asks for values that were halved.
  bool ForwardWith(const Behind& behind, Blob<float>* bottom, Blob<float>* top);
  /// @brief Whether it can take halved values: those that its stride of 2
  ///        leaves, or with a stride of 1 the halved values' halved ones.
  bool TakesHalved(bool gives_halved) const;

 protected:
  virtual void Forward_cpu(const vector<Blob<float>*>& bottom,
      const vector<Blob<float>*>& top);
  virtual void Backward_cpu(const vector<Blob<float>*>& top,
      const vector<bool>& propagate_down, const vector<Blob<float>*>& bottom);

 private:
  struct Plan;    // what computes one shape of the blobs
  struct Choice;  // what computes it now, from what

  bool Fits(const Blob<float>& bottom);
  Choice Choose(const Behind& behind, const Blob<float>& bottom,
      const SyncedMemory& last) const;
  dnnl::memory Take(const Choice& choice, Blob<float>* bottom);
  dnnl::memory PackedWeights();
  onednn::Parameters::Sources Sources(
      const vector<Layer<float>*>& affine) const;
  vector<float> FoldedWeights(const vector<Layer<float>*>& affine) const;
  shared_ptr<const dnnl::memory> Fold(const vector<Layer<float>*>& affine);
  dnnl::memory WeightsFor(const Choice& choice,
      const vector<Layer<float>*>& affine, const dnnl::memory& folded);
  void Defer(const Behind& behind, const dnnl::memory& half,
      const shared_ptr<onednn::HeldConvolution>& held, Blob<float>* top);
  void BackwardParametersWinograd(Blob<float>* top, Blob<float>* bottom);
  void BackwardDataWinograd(Blob<float>* top, Blob<float>* bottom);
  void BackwardParameters(Blob<float>* top, Blob<float>* bottom);
  void BackwardData(Blob<float>* top, Blob<float>* bottom);

  shared_ptr<Plan> plan_;  // NULL where the shape does not fit
  onednn::Parameters forward_weights_, backward_weights_;
  onednn::Parameters folded_weights_, folded_bias_;  // with layers behind
  onednn::Parameters halved_weights_;  // of what gives halved values
  bool folded_finite_;
};

}  // namespace caffe

#endif  // USE_ONEDNN
#endif  // CAFFE_ONEDNN_CONV_LAYER_HPP_
