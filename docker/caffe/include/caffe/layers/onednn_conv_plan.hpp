#ifndef CAFFE_ONEDNN_CONV_PLAN_HPP_
#define CAFFE_ONEDNN_CONV_PLAN_HPP_
#ifdef USE_ONEDNN

#include "caffe/layers/onednn_conv_layer.hpp"
#include "caffe/util/onednn_convolution.hpp"
#include "caffe/util/onednn_deferred.hpp"

namespace caffe {

// The sizes of a convolution, and what computes it. What is of the backward
// pass is made when it first comes.
struct OneDnnConvolutionLayer::Plan : public onednn::ConvolutionShapes {
  shared_ptr<const onednn::ConvolutionForward> forward;
  shared_ptr<const onednn::ConvolutionForward> halved[2][2];  // takes, gives
  bool tried[2][2] = {};
  shared_ptr<const winograd::Winograd> winograd_mirrored;
  dnnl::convolution_backward_data::primitive_desc data_desc;
  dnnl::convolution_backward_weights::primitive_desc weights_desc;
  dnnl::primitive backward_data, backward_weights;
  bool winograd_backward;

  dnnl::memory bottom_copy, top_diff_copy, residual_copy;
  dnnl::memory weights_diff, bias_diff;

  // What takes or gives halved values instead of whole ones. NULL where that
  // can't be, or would be slow.
  const shared_ptr<const onednn::ConvolutionForward>& Halving(bool takes,
      bool gives) {
    if (!takes && !gives) { return forward; }
    if (!tried[takes][gives]) {
      tried[takes][gives] = true;
      halved[takes][gives] = MakeHalving(takes, gives);
    }
    return halved[takes][gives];
  }

  bool TakesHalved(bool gives) const {
    return forward->is_pointwise() &&
        (gives || (stride[0] % 2 == 0 && stride[1] % 2 == 0));
  }

  shared_ptr<const onednn::ConvolutionForward> MakeHalving(bool takes,
      bool gives) const {
    const shared_ptr<const onednn::ConvolutionForward> none;
    if (takes && !TakesHalved(gives)) { return none; }
    onednn::ConvolutionShapes shapes(*this);
    for (auto& each : shapes.stride) {
      each = each * (gives ? 2 : 1) / (takes ? 2 : 1);
    }
    if (takes) { shapes.bottom = onednn::halved(bottom); }
    if (gives) {
      shapes.top = onednn::halved(top);
      shapes.halved_residual = top;
    }
    const shared_ptr<const onednn::ConvolutionForward> made =
        onednn::ConvolutionForward::Make(shapes);
    return made && made->can_finish() &&
        (!gives || made->top_order() == onednn::blocked(shapes.top)) ? made :
            none;
  }

  // False where there is nothing fast.
  bool PrepareBackward(Phase phase);
};

}  // namespace caffe

#endif  // USE_ONEDNN
#endif  // CAFFE_ONEDNN_CONV_PLAN_HPP_
