#ifndef CAFFE_UTIL_ONEDNN_HPP_
#define CAFFE_UTIL_ONEDNN_HPP_
#ifdef USE_ONEDNN

#include <unordered_map>

#include "caffe/blob.hpp"
#include "caffe/common.hpp"
#include "caffe/util/onednn_api.hpp"

// What the layers that compute with oneDNN share. Their blobs are packed:
// between two such layers the values stay in oneDNN's order, and anybody else
// gets them in Caffe's (SyncedMemory).
namespace caffe {
namespace onednn {

// The environment's CAFFE_ONEDNN: "0" is off, "direct" is without Winograd's
// convolution, "1" or nothing is on.
enum Use { OFF, DIRECT, ON };
Use use();

// Whether layers that are created now are to compute with oneDNN.
bool on_cpu();

typedef std::unordered_map<int, dnnl::memory> Arguments;

// As long as it lives, this thread and OpenMP's threads beside it take values
// below FLT_MIN (1.2e-38, "denormal") for zeros. Intel's CPUs take a hundred
// times as long to compute with those, and gradients that a saturated softmax
// makes are full of them.
class FlushDenormals {
 public:
  FlushDenormals();
  ~FlushDenormals();

 private:
  const unsigned before_;

  DISABLE_COPY_AND_ASSIGN(FlushDenormals);
};

// As long as it lives, the primitives that this thread makes and runs take no
// other thread.
class OneThread {
 public:
  OneThread();
  ~OneThread();

 private:
  const int before_;

  DISABLE_COPY_AND_ASSIGN(OneThread);
};

// This thread's scratch memory, until it runs the next primitive: more is
// allocated where it has less.
void* scratch(size_t bytes);

// Runs a primitive, made with attributes(), to its end.
void run(const dnnl::primitive& primitive, Arguments arguments);

// Copies values from one order into another.
void reorder(const dnnl::memory& from, const dnnl::memory& to,
    const dnnl::primitive_attr& how = attributes());

// Whether oneDNN has this primitive, and more than its slow reference for it.
bool is_fast(const dnnl::primitive_desc_base& primitive);

// Float values, of which `format` says the order; any: oneDNN may choose.
dnnl::memory::desc layout(const vector<int>& shape,
    dnnl::memory::format_tag format = dnnl::memory::format_tag::any);

// The same in Caffe's order. One, two, four or five axes, as weights or a blob
// has.
dnnl::memory::desc plain(const vector<int>& shape);

// A blob's data (or diff) of this shape where they are packed, else nothing.
// (Layers share values among blobs of different shapes: Reshape, Flatten.)
dnnl::memory packed(const SyncedMemory& values, const vector<int>& shape);
// What packed values are; nothing where they are not of the next function.
dnnl::memory packed(const PackedValues& values);
// Values in oneDNN's order, as a SyncedMemory has them.
shared_ptr<PackedValues> pack(const dnnl::memory& values);

// The values in the wanted order: themselves where they are in it, else a copy
// in `copy`, which is made anew where it does not fit.
dnnl::memory read(SyncedMemory* values, const vector<int>& shape,
    const dnnl::memory::desc& wanted, dnnl::memory* copy);

// Memory for new values in some order, and then, when it is filled, the word
// that these are the values. It is the memory of the old ones where it can be:
// packed values that somebody else holds (SyncedMemory::packed) do not change.
dnnl::memory write(SyncedMemory* values, const vector<int>& shape,
    const dnnl::memory::desc& order);
// The same for a layer in place, which reads packed values and writes them.
dnnl::memory write_over(SyncedMemory* values, const vector<int>& shape);
void written(SyncedMemory* values, const dnnl::memory& filled);

// Memory that nobody uses any more, for the next call of fresh, write or
// write_over in this thread that needs some of its order. New memory costs a
// page fault for each 4 kB.
void recycle(const dnnl::memory& unused);
dnnl::memory fresh(const dnnl::memory::desc& order);

// Adds values, in whatever order, to plain ones.
void add(const dnnl::memory& values, const dnnl::memory::desc& plain,
    float* sum);

// result (M x N) = A (M x K) * B (K x N), or adds that to it; all row by row.
// 'T': A (or B) lies transposed, K x M (or N x K); 'N': as it is.
void multiply(char transposeA, char transposeB, int M, int N, int K,
    const float* A, const float* B, bool add, float* result);

// Makes memory in an order, unless it is.
void reserve(const dnnl::memory::desc& order, dnnl::memory* memory);

// Parameters in the order that a primitive wants, kept until they change.
class Parameters {
 public:
  typedef vector<shared_ptr<SyncedMemory> > Sources;

  dnnl::memory get(const shared_ptr<SyncedMemory>& values,
      const dnnl::memory::desc& plain, const dnnl::memory::desc& wanted);

  // What `convert` makes of one or several, into memory of the wanted order.
  template <typename Convert>
  dnnl::memory get(const Sources& sources, const dnnl::memory::desc& wanted,
      const Convert& convert) {
    if (Renew(sources, wanted)) { convert(*copy_); }
    return *copy_;
  }

  // They stay what they are as long as somebody has this.
  shared_ptr<const dnnl::memory> held() const { return copy_; }

 private:
  // Whether copy_ has to be filled anew; it is as wanted afterwards.
  bool Renew(const Sources& sources, const dnnl::memory::desc& wanted);

  Sources sources_;
  vector<size_t> versions_;
  shared_ptr<dnnl::memory> copy_;
};

// So many floats, one behind the other.
dnnl::memory::desc row(size_t count);

// The values in some memory; NULL of none.
inline float* floats(const dnnl::memory& values) {
  return values ? static_cast<float*>(values.get_data_handle()) : NULL;
}

}  // namespace onednn
}  // namespace caffe

#endif  // USE_ONEDNN
#endif  // CAFFE_UTIL_ONEDNN_HPP_
