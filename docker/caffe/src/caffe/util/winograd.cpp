#ifdef USE_ONEDNN
#include "caffe/util/winograd.hpp"

#include <unistd.h>

#include <algorithm>

#include <oneapi/dnnl/dnnl.hpp>

#include "caffe/util/thread_pool.hpp"

namespace caffe {
namespace winograd {

static const size_t kManyPoints = 4 << 20;    // bytes: of filters, beyond L2
static const size_t kSharedBytes = 24 << 20;  // of tiles, for all threads
static const int kLeast = 8;   // tiles for a thread on its own, twice as many
                               // where filters are not in its cache
static const int kChunk = 16;  // tiles that one thread transforms at a time

const Kernels* Winograd::kernels(int taps) {
  // A set of instructions has the bits of all those that it includes.
  const int here = static_cast<int>(dnnl::get_effective_cpu_isa());
  const int avx512 = static_cast<int>(dnnl::cpu_isa::avx512_core);
  const int avx2 = static_cast<int>(dnnl::cpu_isa::avx2);
  if ((here & avx512) == avx512) { return kernels_avx512(taps); }
  if ((here & avx2) == avx2) { return kernels_avx2(taps); }
  return NULL;
}

Winograd::Winograd(const Kernels* kernels, const Sizes& sizes)
    : kernels_(kernels), sizes_(sizes), mirrored_(false),
      tiles_h_((TopHeight() + kernels->tile - 1) / kernels->tile),
      tiles_w_((TopWidth() + kernels->tile - 1) / kernels->tile),
      tiles_(sizes.number * tiles_h_ * tiles_w_) {}

Winograd Winograd::Mirrored() const {
  const int most = kernels_->taps - 1;
  const Sizes sizes = {sizes_.number, sizes_.outputs, TopHeight(), TopWidth(),
      sizes_.inputs, most - sizes_.pad_h, most - sizes_.pad_w};
  Winograd mirrored(kernels_, sizes);
  mirrored.mirrored_ = !mirrored_;
  return mirrored;
}

int Winograd::Blocks(int channels) const {
  return (channels + kernels_->width - 1) / kernels_->width;
}

int Winograd::Panels() const {
  return (Blocks(sizes_.outputs) + kPanel - 1) / kPanel;
}

// Floats from point to point: an odd number of the cache's lines, or else the
// 36 points of a tile would compete for one set of it.
size_t Winograd::Step(size_t vectors) const {
  const size_t line = 16;
  return ((vectors * kernels_->width + line - 1) / line | 1) * line;
}

size_t Winograd::ForwardStep() const {
  return Step(static_cast<size_t>(Blocks(sizes_.outputs)) *
      Blocks(sizes_.inputs) * kernels_->width);
}

size_t Winograd::points_size() const {
  return kPoints * ForwardStep();
}

// How the tiles are taken: so many at a time, by all threads together, or by
// each thread on its own.
struct Winograd::Pass {
  int first(int block) const {
    return static_cast<int>(static_cast<int64_t>(total) * block / blocks);
  }
  size_t scratch() const {
    return kPoints * (bottom_step + top_step) * (shared ? 1 : threads);
  }

  bool shared;
  int threads, total, blocks;
  size_t bottom_step, top_step;  // floats from point to point
};

// What one thread works on should stay in its L2 cache.
static size_t cache_size() {
  const long size = sysconf(_SC_LEVEL2_CACHE_SIZE);  // NOLINT(runtime/int)
  return size > 0 ? size : 512 * 1024;
}

Winograd::Pass Winograd::Plan(bool shared, size_t bytes) const {
  const int bottoms = Blocks(sizes_.inputs), tops = Blocks(sizes_.outputs);
  const size_t tile_bytes = static_cast<size_t>(bottoms + tops) *
      kernels_->width * kPoints * sizeof(float);
  const int tiles = std::max<size_t>(kLeast, bytes / tile_bytes);
  Pass pass;
  pass.threads = pool_threads();
  const bool reads = points_size() * sizeof(float) > cache_size();
  pass.shared = shared ||
      tiles_ < (reads ? 2 * kLeast : kLeast) * pass.threads;
  if (pass.shared && !shared) { return Plan(true, kSharedBytes); }
  pass.total = tiles_;
  pass.blocks = (tiles_ + tiles - 1) / tiles;
  if (!shared) {  // as many for each thread
    pass.blocks += pass.threads - 1 - (pass.blocks - 1) % pass.threads;
  }
  const int most = (tiles_ + pass.blocks - 1) / pass.blocks;
  pass.bottom_step = Step(static_cast<size_t>(bottoms) * most);
  pass.top_step = Step(static_cast<size_t>(tops) * most);
  return pass;
}

bool Winograd::ManyPoints() const {
  return points_size() * sizeof(float) > kManyPoints;
}

// Where the filters' points are few they stay in the cache beside the tiles'.
// Where they are many they are read as seldom as can be.
Winograd::Pass Winograd::PlanForward() const {
  return ManyPoints() ? Plan(true, kSharedBytes) :
      Plan(false, cache_size() / 2);
}

Winograd::Pass Winograd::PlanBackward() const {
  return Plan(true, kSharedBytes);
}

size_t Winograd::forward_scratch() const {
  return PlanForward().scratch();
}

size_t Winograd::backward_scratch() const {
  return PlanBackward().scratch() + points_size();
}

Filters Winograd::Layout(const float* weights) const {
  const size_t in = sizes_.inputs, out = sizes_.outputs;
  const size_t each = kernels_->taps * kernels_->taps;
  const Filters filters = {weights, sizes_.outputs, sizes_.inputs,
      mirrored_ ? each : in * each, mirrored_ ? out * each : each, mirrored_};
  return filters;
}

Planes Winograd::Bottom(const float* values) const {
  const Planes planes = {const_cast<float*>(values), Blocks(sizes_.inputs),
      sizes_.height, sizes_.width, sizes_.pad_h, sizes_.pad_w, tiles_h_,
      tiles_w_};
  return planes;
}

Planes Winograd::Top(const float* values) const {
  const Planes planes = {const_cast<float*>(values), Blocks(sizes_.outputs),
      TopHeight(), TopWidth(), 0, 0, tiles_h_, tiles_w_};
  return planes;
}

// Points lie as point, panel, input, output of the panel.
void Winograd::TransformWeights(const float* weights, float* points) const {
  const Filters filters = Layout(weights);
  const int width = kernels_->width, outputs = Blocks(sizes_.outputs);
  const int inputs = Blocks(sizes_.inputs), panels = Panels();
  parallel_for(panels * inputs, [&](int i, int) {
    const int block = i / inputs * kPanel, input = i % inputs;
    const int blocks = std::min(kPanel, outputs - block);
    Filters some = filters;
    some.values += static_cast<size_t>(input) * width * filters.in_step;
    some.inputs -= input * width;
    const Points to = {points + (static_cast<size_t>(block) * inputs +
        input * blocks) * width * width, ForwardStep()};
    kernels_->transform_filters(some, block, blocks, width, ManyPoints(), to);
  });
}

static int chunks(int tiles) { return (tiles + kChunk - 1) / kChunk; }

// Tiles of all blocks of channels.
void Winograd::Transform(const Planes& from, int blocks, bool diff, int first,
    int last, const Points& to) const {
  const int some = chunks(last - first);
  parallel_for(blocks * some, [&](int i, int) {
    const int block = i / some, tile = first + i % some * kChunk;
    const Points chunk = {to.values + (static_cast<size_t>(block) *
        (last - first) + tile - first) * kernels_->width, to.step};
    (diff ? kernels_->transform_diff : kernels_->transform_input)(from, block,
        tile, std::min(tile + kChunk, last), chunk);
  });
}

// A forward pass at work.
struct Winograd::Work {
  // At one point, the tops' panel of so many tiles.
  void Multiply(const Points& a, const Points& c, int point, int panel,
      int tiles) const {
    const int width = of.kernels_->width, block = panel * kPanel;
    const size_t step = static_cast<size_t>(tiles) * width;
    of.kernels_->multiply(a.values + point * a.step, step, of.sizes_.inputs,
        points + point * of.ForwardStep() +
            static_cast<size_t>(block) * bottoms * width * width,
        std::min(kPanel, tops - block), tiles, NULL,
        c.values + point * c.step + block * step, step);
  }

  // One of the tops' blocks; `to` has the points of its tiles from `first` on.
  void Output(const Points& c, int block, int first, int last) const {
    const int width = of.kernels_->width;
    Finish here = finish;
    if (here.bias) { here.bias += block * width; }
    if (here.slopes) { here.slopes += block * width; }
    of.kernels_->transform_output(c, block, first, last, here,
        of.sizes_.outputs - block * width, top);
  }

  const Winograd& of;
  const Pass pass;
  const Planes bottom, top;
  const int bottoms, tops;  // blocks of channels
  const float* points;
  const Finish finish;
  float* scratch;
};

void Winograd::Forward(const float* bottom, const float* points,
    const Finish& finish, float* top, float* scratch, size_t top_step) const {
  Planes to = Top(top);
  if (top_step) {
    const size_t plane = static_cast<size_t>(to.height) * to.width;
    to.blocks = top_step / (plane * kernels_->width);
  }
  const Work work = {*this, PlanForward(), Bottom(bottom), to,
      Blocks(sizes_.inputs), Blocks(sizes_.outputs), points, finish, scratch};
  if (work.pass.shared) {
    ForwardTogether(work);
  } else {
    ForwardApart(work);
  }
}

void Winograd::ForwardTogether(const Work& work) const {
  const Pass& pass = work.pass;
  const int width = kernels_->width, panels = Panels();
  const Points a = {work.scratch, pass.bottom_step};
  const Points c = {work.scratch + kPoints * pass.bottom_step, pass.top_step};
  for (int i = 0; i < pass.blocks; ++i) {
    const int first = pass.first(i), last = pass.first(i + 1);
    const int some = chunks(last - first);
    Transform(work.bottom, work.bottoms, false, first, last, a);
    parallel_for(kPoints * panels, [&](int i, int) {
      work.Multiply(a, c, i / panels, i % panels, last - first);
    });
    parallel_for(work.tops * some, [&](int i, int) {
      const int block = i / some, tile = first + i % some * kChunk;
      const Points chunk = {c.values + (static_cast<size_t>(block) *
          (last - first) + tile - first) * width, c.step};
      work.Output(chunk, block, tile, std::min(tile + kChunk, last));
    });
  }
}

void Winograd::ForwardApart(const Work& work) const {
  const Pass& pass = work.pass;
  const int width = kernels_->width, panels = Panels();
  parallel_for(pass.blocks, [&](int i, int thread) {
    float* const mine = work.scratch +
        thread * kPoints * (pass.bottom_step + pass.top_step);
    const Points a = {mine, pass.bottom_step};
    const Points c = {mine + kPoints * pass.bottom_step, pass.top_step};
    const int first = pass.first(i), last = pass.first(i + 1);
    for (int block = 0; block < work.bottoms; ++block) {
      const Points to = {a.values + block * (last - first) * width, a.step};
      kernels_->transform_input(work.bottom, block, first, last, to);
    }
    for (int point = 0; point < kPoints; ++point) {
      for (int panel = 0; panel < panels; ++panel) {
        work.Multiply(a, c, point, panel, last - first);
      }
    }
    for (int block = 0; block < work.tops; ++block) {
      const Points of = {c.values + block * (last - first) * width, c.step};
      work.Output(of, block, first, last);
    }
  });
}

void Winograd::BackwardWeights(const float* bottom, const float* top_diff,
    float* scratch, float* weights_diff) const {
  const Pass pass = PlanBackward();
  const Planes from = Bottom(bottom), diff = Top(top_diff);
  const int inputs = Blocks(sizes_.inputs), outputs = Blocks(sizes_.outputs);
  const int panels = Panels();
  const Points a = {scratch, pass.bottom_step};
  const Points b = {scratch + kPoints * pass.bottom_step, pass.top_step};
  const Points sums = {scratch + pass.scratch(), ForwardStep()};
  for (int i = 0; i < pass.blocks; ++i) {
    const int first = pass.first(i), last = pass.first(i + 1);
    Transform(from, inputs, false, first, last, a);
    Transform(diff, outputs, true, first, last, b);
    parallel_for(kPoints * panels, [&](int j, int) {
      Correlate(a, b, j / panels, j % panels, last - first, i > 0, sums);
    });
  }
  AddWeightsDiff(sums, weights_diff);
}

// At one point, adds the tiles' products of all inputs with a panel of outputs
// to their sums (or makes them that); sums lie as point, output's block, input,
// output.
void Winograd::Correlate(const Points& a, const Points& b, int point, int panel,
    int tiles, bool add, const Points& sums) const {
  const int width = kernels_->width, inputs = Blocks(sizes_.inputs);
  const int block = panel * kPanel;
  const int blocks = std::min(kPanel, Blocks(sizes_.outputs) - block);
  const size_t step = static_cast<size_t>(tiles) * width;
  const size_t sums_step = static_cast<size_t>(inputs) * width * width;
  for (int input = 0; input < inputs * width; input += kernels_->rows) {
    kernels_->multiply_add(
        a.values + point * a.step + input / width * step + input % width,
        b.values + point * b.step + block * step, step, blocks, tiles, add,
        sums.values + point * sums.step + block * sums_step + input * width,
        sums_step);
  }
}

void Winograd::AddWeightsDiff(const Points& sums, float* weights_diff) const {
  const int width = kernels_->width, outputs = Blocks(sizes_.outputs);
  const size_t sums_step =
      static_cast<size_t>(Blocks(sizes_.inputs)) * width * width;
  const int inputs = sizes_.inputs;
  parallel_parts(static_cast<size_t>(outputs) * inputs, 16,
      [&](size_t begin, size_t end) {
    for (size_t i = begin; i < end; ++i) {
      const int block = i / inputs, input = i % inputs;
      const Points from = {sums.values + block * sums_step + input * width,
          sums.step};
      kernels_->add_filters_diff(from, Layout(NULL), block, input,
          weights_diff);
    }
  });
}

void Winograd::BackwardBias(const float* top_diff, float* bias_diff) const {
  const int width = kernels_->width, outputs = Blocks(sizes_.outputs);
  const int rows = TopHeight(), columns = TopWidth();
  parallel_for(outputs, [&](int block, int) {
    float sums[16] = {};
    for (int row = 0; row < sizes_.number * rows; ++row) {
      const float* from = top_diff + ((static_cast<size_t>(row / rows) *
          outputs + block) * rows + row % rows) * columns * width;
      float row_sums[16] = {};
      for (int i = 0; i < columns * width; i += width) {
        for (int j = 0; j < width; ++j) { row_sums[j] += from[i + j]; }
      }
      for (int j = 0; j < width; ++j) { sums[j] += row_sums[j]; }
    }
    for (int j = 0; j < width && block * width + j < sizes_.outputs; ++j) {
      bias_diff[block * width + j] += sums[j];
    }
  });
}

}  // namespace winograd
}  // namespace caffe
#endif  // USE_ONEDNN
