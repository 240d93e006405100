#ifndef CAFFE_UTIL_ONEDNN_API_HPP_
#define CAFFE_UTIL_ONEDNN_API_HPP_
#ifdef USE_ONEDNN

#include <vector>

#include <oneapi/dnnl/dnnl.hpp>

// oneDNN 2 (Debian 12) and 3 (Debian 13) have the same primitives under two
// interfaces. All that differs between them is here.
namespace caffe {
namespace onednn {

const dnnl::engine& cpu();

// What every primitive is made with: it may be run by any thread.
dnnl::primitive_attr attributes();

inline dnnl::memory::dims dims(const dnnl::memory::desc& order) {
#if DNNL_VERSION_MAJOR >= 3
  return order.get_dims();
#else
  return order.dims();
#endif
}

// Pooling that may have dilation; 0, it is the one without.
#if DNNL_VERSION_MAJOR >= 3
using dnnl::pooling_forward;
using dnnl::pooling_backward;
#else
typedef dnnl::pooling_v2_forward pooling_forward;
typedef dnnl::pooling_v2_backward pooling_backward;
#endif

// The primitive for an operation: what oneDNN's documentation lists for its
// kind, from the propagation kind or algorithm to the last padding. Empty where
// oneDNN has none.
template <typename Primitive, typename... Operation>
typename Primitive::primitive_desc describe(const Operation&... operation) {
#if DNNL_VERSION_MAJOR >= 3
  return typename Primitive::primitive_desc(cpu(), operation..., attributes(),
      true);
#else
  const typename Primitive::desc wanted(operation...);
  return typename Primitive::primitive_desc(wanted, attributes(), cpu(), true);
#endif
}

// The same for a backward pass, which depends on that of the forward pass.
template <typename Primitive, typename Forward, typename... Operation>
typename Primitive::primitive_desc describe_backward(const Forward& forward,
    const Operation&... operation) {
#if DNNL_VERSION_MAJOR >= 3
  return typename Primitive::primitive_desc(cpu(), operation..., forward,
      attributes(), true);
#else
  const typename Primitive::desc wanted(operation...);
  return typename Primitive::primitive_desc(wanted, attributes(), cpu(),
      forward, true);
#endif
}

inline dnnl::concat::primitive_desc describe_concat(int axis,
    const std::vector<dnnl::memory::desc>& parts) {
#if DNNL_VERSION_MAJOR >= 3
  return dnnl::concat::primitive_desc(cpu(), axis, parts, attributes());
#else
  return dnnl::concat::primitive_desc(axis, parts, cpu(), attributes());
#endif
}

// Local response normalization across channels, for a forward pass only.
inline dnnl::lrn_forward::primitive_desc describe_lrn(
    const dnnl::memory::desc& order, int size, float alpha, float beta,
    float k) {
  const dnnl::prop_kind forward = dnnl::prop_kind::forward_inference;
  const dnnl::algorithm across = dnnl::algorithm::lrn_across_channels;
#if DNNL_VERSION_MAJOR >= 3
  return describe<dnnl::lrn_forward>(forward, across, order, order,
      static_cast<dnnl::memory::dim>(size), alpha, beta, k);
#else
  return describe<dnnl::lrn_forward>(forward, across, order,
      static_cast<dnnl::memory::dim>(size), alpha, beta, k);
#endif
}

// The sum of several, in the order of the first.
inline dnnl::sum::primitive_desc describe_sum(
    const std::vector<dnnl::memory::desc>& parts) {
  const std::vector<float> factors(parts.size(), 1);
#if DNNL_VERSION_MAJOR >= 3
  return dnnl::sum::primitive_desc(cpu(), parts[0], factors, parts,
      attributes());
#else
  return dnnl::sum::primitive_desc(parts[0], factors, parts, cpu(),
      attributes());
#endif
}

}  // namespace onednn
}  // namespace caffe

#endif  // USE_ONEDNN
#endif  // CAFFE_UTIL_ONEDNN_API_HPP_
