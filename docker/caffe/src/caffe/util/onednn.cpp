#ifdef USE_ONEDNN
#include "caffe/util/onednn.hpp"

#include <omp.h>
#include <pthread.h>
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
#include "caffe/util/signals_wait.hpp"

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
    const SignalsWait not_theirs;
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

// How many of the OpenMP threads of this thread flush denormals.
static thread_local int told = 1;

// The OpenMP threads of a thread that forks the process end before: the child
// has none of them, and would wait for them for ever. Both processes begin new
// ones when they compute.
static void end_threads() {
  const int threads = omp_get_max_threads();
  omp_pause_resource_all(omp_pause_hard);
  omp_set_num_threads(threads);
  told = 1;
}

static void end_threads_before_fork() {
  static std::once_flag once;
  std::call_once(once, [] { pthread_atfork(&end_threads, NULL, NULL); });
}

// A thread's own: the stream, scratch memory for the primitive that it runs,
// and memory that was recycled. (oneDNN's own scratch memory belongs to the
// thread that made the primitive.) It begins with as many OpenMP threads as the
// BLAS has, which follows OPENBLAS_NUM_THREADS.
struct Context {
  Context() : stream(cpu()) {
    const int threads = cpu_threads();
    if (threads > 1) {
      end_threads_before_fork();
      spin_briefly();
    }
    omp_set_num_threads(threads);
  }
  dnnl::stream stream;
  memory scratch;
  vector<memory> spare;
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
  if (omp_get_max_threads() > told) {
    told = omp_get_max_threads();
#pragma omp parallel
    {
      set_float_settings(float_settings() | kFlush);
      if (omp_get_thread_num() > 0) { SignalsWait::Always(); }
    }
  }
  set_float_settings(before_ | kFlush);
}

FlushDenormals::~FlushDenormals() {
  set_float_settings(before_);
}

// How many there are now, once the context has counted them.
static int threads() {
  context();
  return omp_get_max_threads();
}

OneThread::OneThread() : before_(threads()) {
  omp_set_num_threads(1);
}

OneThread::~OneThread() {
  omp_set_num_threads(before_);
}

dnnl::primitive_attr attributes() {
  context();  // a primitive starts as many threads as there are when it is made
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
  const SignalsWait wait;
  const FlushDenormals flush;
  primitive.execute(here.stream, arguments);
  here.stream.wait();
}

// A net's answers: starting OpenMP's threads takes longer than copying them.
static const size_t kFewBytes = 64 * 1024;

void reorder(const memory& from, const memory& to,
    const dnnl::primitive_attr& how) {
  Arguments arguments;
  arguments[DNNL_ARG_FROM] = from;
  arguments[DNNL_ARG_TO] = to;
  if (to.get_desc().get_size() < kFewBytes) {
    const OneThread alone;
    run(dnnl::reorder(dnnl::reorder::primitive_desc(from, to, how)), arguments);
  } else {
    run(dnnl::reorder(dnnl::reorder::primitive_desc(from, to, how)), arguments);
  }
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
  const SignalsWait wait;
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
  switch (shape.size()) {
  case 1: return layout(shape, memory::format_tag::a);
  case 2: return layout(shape, memory::format_tag::ab);
  case 4: return layout(shape, memory::format_tag::abcd);
  case 5: return layout(shape, memory::format_tag::abcde);
  }
  LOG(FATAL) << "no order for " << shape.size() << " axes";
  return memory::desc();
}

struct Packed : public PackedValues {
  explicit Packed(const memory& values) : values(values) {}
  virtual void Unpack(void* to) const {
    const memory::dims sizes = dims(values.get_desc());
    const vector<int> shape(sizes.begin(), sizes.end());
    reorder(values, memory(plain(shape), cpu(), to));
  }
  memory values;
};

memory packed(const PackedValues& values) {
  const Packed* known = dynamic_cast<const Packed*>(&values);
  return known ? known->values : memory();
}

shared_ptr<PackedValues> pack(const memory& values) {
  return shared_ptr<PackedValues>(new Packed(values));
}

memory packed(const SyncedMemory& values, const vector<int>& shape) {
  const shared_ptr<PackedValues> held = values.packed();
  const memory current = held ? packed(*held) : memory();
  const memory::dims sizes(shape.begin(), shape.end());
  return current && dims(current.get_desc()) == sizes ? current : memory();
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

static const size_t kMostSpare = 16;  // a ResNet takes 14

void recycle(const memory& unused) {
  vector<memory>& spare = context().spare;
  if (spare.size() == kMostSpare) { spare.erase(spare.begin()); }
  spare.push_back(unused);
}

memory fresh(const memory::desc& order) {
  vector<memory>& spare = context().spare;
  for (int i = 0; i < spare.size(); ++i) {
    if (spare[i].get_desc() == order) {
      const memory found = spare[i];
      spare.erase(spare.begin() + i);
      return found;
    }
  }
  return memory(order, cpu());
}

// Of `held` one is the SyncedMemory's, and one the caller's.
static bool held_by_others(const shared_ptr<PackedValues>& held) {
  return held.use_count() > 2;
}

memory write(SyncedMemory* values, const vector<int>& shape,
    const memory::desc& order) {
  if (order == plain(shape)) {
    return memory(order, cpu(), values->mutable_cpu_data());
  }
  const shared_ptr<PackedValues> held = values->packed_buffer();
  const Packed* buffer = dynamic_cast<const Packed*>(held.get());
  return buffer && buffer->values.get_desc() == order && !held_by_others(held) ?
      buffer->values : fresh(order);
}

memory write_over(SyncedMemory* values, const vector<int>& shape) {
  const memory current = packed(*values, shape);
  const shared_ptr<PackedValues> held = values->packed_buffer();
  return held_by_others(held) ? fresh(current.get_desc()) : current;
}

void written(SyncedMemory* values, const memory& filled) {
  const memory::dims sizes = dims(filled.get_desc());
  if (filled.get_desc() != plain(vector<int>(sizes.begin(), sizes.end()))) {
    values->set_packed(pack(filled));
  }
}

memory::desc row(size_t count) {
  return memory::desc(memory::dims(1, static_cast<memory::dim>(count)),
      memory::data_type::f32, memory::format_tag::a);
}

memory Parameters::get(const shared_ptr<SyncedMemory>& values,
    const memory::desc& plain, const memory::desc& wanted) {
  const auto source = [&] {
    return memory(plain, cpu(), const_cast<void*>(values->cpu_data()));
  };
  if (plain == wanted) {
    return source();
  }
  return get(Sources(1, values), wanted,
      [&](const memory& to) { reorder(source(), to); });
}

// The versions are told before the values are read: what another thread writes
// meanwhile is newer.
bool Parameters::Renew(const Sources& sources, const memory::desc& wanted) {
  bool pinned = false;
  vector<size_t> versions;
  for (const auto& source : sources) {
    pinned = pinned || source->pinned();
    versions.push_back(source->version());
  }
  if (copy_ && copy_->get_desc() == wanted && sources_ == sources &&
      versions_ == versions && !pinned) {
    return false;
  }
  if (!copy_ || copy_->get_desc() != wanted || copy_.use_count() > 1) {
    copy_.reset();  // free the old one first
    copy_.reset(new memory(wanted, cpu()));
  }
  sources_ = sources;
  versions_ = versions;
  return true;
}

}  // namespace onednn
}  // namespace caffe

#endif  // USE_ONEDNN
