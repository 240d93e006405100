#ifdef USE_ONEDNN
#include "caffe/util/onednn.hpp"

#include <omp.h>
#include <unistd.h>
#ifdef __SSE2__
#include <xmmintrin.h>
#endif

#include <cstdlib>
#include <mutex>  // NOLINT(build/c++11)
#include <string>
#include <thread>  // NOLINT(build/c++11)

#include "caffe/util/cpu_threads.hpp"
#include "caffe/util/few_rows.hpp"

namespace caffe {
namespace onednn {

using dnnl::memory;

Use use() {
  const char* value = std::getenv("CAFFE_ONEDNN");
  const std::string word = value ? value : "";
  if (word == "0") { return OFF; }
  if (word == "direct") { return DIRECT; }
  CHECK(word.empty() || word == "1")
      << "CAFFE_ONEDNN is \"" << word << "\"; it can be 0, 1 or direct";
  return ON;
}

bool on_cpu() {
  return Caffe::mode() == Caffe::CPU && use() != OFF;
}

const dnnl::engine& cpu() {
  static const dnnl::engine engine(dnnl::engine::kind::cpu, 0);
  return engine;
}

// GNU's OpenMP lets threads that wait for others spin, for milliseconds, before
// they sleep - unless it has more threads than there are processors. Where a
// program does something besides (reads pictures, say), the one that is waited
// for needs the processor that the other spins on, and passes take many times
// as long. A team of threads that sleep for good makes it spin briefly, always;
// but for this, only OMP_WAIT_POLICY in the environment, before the program
// starts, would.
static void spin_briefly() {
  static std::once_flag once;
  std::call_once(once, [] {
    if (std::getenv("OMP_WAIT_POLICY") || std::getenv("GOMP_SPINCOUNT")) {
      return;  // the user has chosen
    }
    try {
      std::thread([] {
        const int many = omp_get_num_procs() + 1;
#pragma omp parallel num_threads(many)
        for (;;) { pause(); }
      }).detach();
    } catch (const std::system_error&) {
      LOG(WARNING) << "No thread to spare: OpenMP's threads will spin.";
    }
  });
}

// A thread's own: the stream, and scratch memory for the primitive that it
// runs. (oneDNN's own scratch memory belongs to the thread that made the
// primitive.) It begins with as many OpenMP threads as the BLAS has, which
// follows OPENBLAS_NUM_THREADS.
struct Context {
  Context() : stream(cpu()) {
    const int threads = cpu_threads();
    if (threads > 1) { spin_briefly(); }
    omp_set_num_threads(threads);
  }
  dnnl::stream stream;
  memory scratch;
};

static Context& context() {
  static thread_local Context context;
  return context;
}

// The CPU's settings for this thread's floating point numbers: a register.
static unsigned float_settings() {
#ifdef __SSE2__
  return _mm_getcsr();
#else
  return 0;
#endif
}

static void set_float_settings(unsigned settings) {
#ifdef __SSE2__
  _mm_setcsr(settings);
#endif
}

static const unsigned kFlush = 0x8040;  // denormal results, denormal operands

FlushDenormals::FlushDenormals() : before_(float_settings()) {
  context();  // counts this thread's threads
  // OpenMP's threads do nothing else, and keep it.
  static thread_local int told = 1;
  if (omp_get_max_threads() > told) {
    told = omp_get_max_threads();
#pragma omp parallel
    set_float_settings(float_settings() | kFlush);
  }
  set_float_settings(before_ | kFlush);
}

FlushDenormals::~FlushDenormals() {
  set_float_settings(before_);
}

dnnl::primitive_attr attributes() {
  dnnl::primitive_attr attributes;
  attributes.set_scratchpad_mode(dnnl::scratchpad_mode::user);
  return attributes;
}

void* scratch(size_t bytes) {
  memory& held = context().scratch;
  if (!held || held.get_desc().get_size() < bytes) {
    const memory::desc needed(
        memory::dims(1, static_cast<memory::dim>(bytes)),
        memory::data_type::u8, memory::format_tag::a);
    held = memory();  // free the old one first
    held = memory(needed, cpu());
  }
  return held.get_data_handle();
}

void run(const dnnl::primitive& primitive, Arguments arguments) {
  Context& here = context();
  const memory::dim size = dnnl_memory_desc_get_size(
      dnnl_primitive_desc_query_md(primitive.get_primitive_desc(),
          dnnl_query_scratchpad_md, 0));
  if (size > 0) {
    const memory::desc needed(memory::dims(1, size), memory::data_type::u8,
        memory::format_tag::a);
    arguments[DNNL_ARG_SCRATCHPAD] = memory(needed, cpu(), scratch(size));
  }
  const FlushDenormals flush;
  primitive.execute(here.stream, arguments);
  here.stream.wait();
}

void reorder(const memory& from, const memory& to,
    const dnnl::primitive_attr& how) {
  Arguments arguments;
  arguments[DNNL_ARG_FROM] = from;
  arguments[DNNL_ARG_TO] = to;
  run(dnnl::reorder(dnnl::reorder::primitive_desc(from, to, how)), arguments);
}

void add(const memory& values, const memory::desc& plain, float* sum) {
  dnnl::post_ops also;
  also.append_sum();
  dnnl::primitive_attr how = attributes();
  how.set_post_ops(also);
  reorder(values, memory(plain, cpu(), sum), how);
}

void multiply(char transposeA, char transposeB, int M, int N, int K,
    const float* A, const float* B, bool add, float* result) {
  const FlushDenormals flush;
  if (transposeA == 'N' && transposeB == 'T' && few_rows_pay(M, N, K)) {
    few_rows_multiply(M, N, K, A, B, add, result);
    return;
  }
  CHECK_EQ(dnnl_sgemm(transposeA, transposeB, M, N, K, 1, A,
      transposeA == 'N' ? K : M, B, transposeB == 'N' ? N : K, add, result, N),
      dnnl_success);
}

bool is_fast(const dnnl::primitive_desc_base& primitive) {
  if (!primitive) { return false; }
  const std::string name = primitive.impl_info_str();
  return name.find("ref") == std::string::npos;
}

memory::desc layout(const vector<int>& shape, memory::format_tag format) {
  return memory::desc(memory::dims(shape.begin(), shape.end()),
      memory::data_type::f32, format);
}

memory::desc plain(const vector<int>& shape) {
  CHECK(shape.size() == 1 || shape.size() == 2 || shape.size() == 4);
  return layout(shape, shape.size() == 4 ? memory::format_tag::abcd :
      shape.size() == 2 ? memory::format_tag::ab : memory::format_tag::a);
}

// Values in oneDNN's order, as a SyncedMemory has them.
struct Packed : public PackedValues {
  explicit Packed(const memory& values) : values(values) {}
  virtual void Unpack(void* to) const {
    const memory::dims sizes = dims(values.get_desc());
    const vector<int> shape(sizes.begin(), sizes.end());
    reorder(values, memory(plain(shape), cpu(), to));
  }
  memory values;
};

memory packed(const SyncedMemory& values, const vector<int>& shape) {
  const shared_ptr<PackedValues> held = values.packed();
  const Packed* current = dynamic_cast<const Packed*>(held.get());
  const memory::dims sizes(shape.begin(), shape.end());
  return current && dims(current->values.get_desc()) == sizes ?
      current->values : memory();
}

void reserve(const memory::desc& order, memory* memory) {
  if (!*memory || memory->get_desc() != order) {
    *memory = dnnl::memory();  // free the old one first
    *memory = dnnl::memory(order, cpu());
  }
}

memory read(SyncedMemory* values, const vector<int>& shape,
    const memory::desc& wanted, memory* copy) {
  memory source = packed(*values, shape);
  if (!source) {
    source = memory(plain(shape), cpu(),
        const_cast<void*>(values->cpu_data()));
  }
  if (source.get_desc() == wanted) {
    return source;
  }
  reserve(wanted, copy);
  reorder(source, *copy);
  return *copy;
}

memory write(SyncedMemory* values, const vector<int>& shape,
    const memory::desc& order) {
  if (order == plain(shape)) {
    return memory(order, cpu(), values->mutable_cpu_data());
  }
  const shared_ptr<PackedValues> held = values->packed_buffer();
  const Packed* buffer = dynamic_cast<const Packed*>(held.get());
  return buffer && buffer->values.get_desc() == order ?
      buffer->values : memory(order, cpu());
}

void written(SyncedMemory* values, const memory& filled) {
  const memory::dims sizes = dims(filled.get_desc());
  if (filled.get_desc() != plain(vector<int>(sizes.begin(), sizes.end()))) {
    values->set_packed(shared_ptr<PackedValues>(new Packed(filled)));
  }
}

memory Parameters::get(const shared_ptr<SyncedMemory>& values,
    const memory::desc& plain, const memory::desc& wanted) {
  if (plain == wanted) {
    return memory(plain, cpu(), const_cast<void*>(values->cpu_data()));
  }
  if (Renew(values, wanted)) {
    reorder(memory(plain, cpu(), const_cast<void*>(values->cpu_data())), copy_);
  }
  return copy_;
}

// The version is told before the values are read: what another thread writes
// meanwhile is newer.
bool Parameters::Renew(const shared_ptr<SyncedMemory>& values,
    const memory::desc& wanted) {
  const bool pinned = values->pinned();
  const size_t version = values->version();
  const bool current = copy_ && copy_.get_desc() == wanted &&
      values_ == values && version_ == version && !pinned;
  if (!current) {
    reserve(wanted, &copy_);
    values_ = values;
    version_ = version;
  }
  return !current;
}

}  // namespace onednn
}  // namespace caffe

#endif  // USE_ONEDNN
