#ifndef CAFFE_PYTHON_LAYER_HPP_
#define CAFFE_PYTHON_LAYER_HPP_

#include "caffe/layer.hpp"

namespace caffe {

/**
 * @brief Makes a layer that is written in Python.
 *
 * What such a layer is, only pycaffe knows (python/caffe/_caffe_layer.cpp):
 * libcaffe is not linked with Python.
 */
typedef shared_ptr<Layer<float> > (*PythonLayerMaker)(
    const LayerParameter& param);

/// @brief Sets who makes Python layers from now on: pycaffe, as it is loaded.
void SetPythonLayerMaker(PythonLayerMaker maker);

}  // namespace caffe

#endif  // CAFFE_PYTHON_LAYER_HPP_
