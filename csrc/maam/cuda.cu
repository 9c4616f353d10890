// The whole module in inference on CUDA: one kernel folds the weights, one goes from the pixels to F.
//
// A block makes F of kTile x kTile pooled pixels of one image and kOutputs channels. It stages the pixels under them
// with the border that the taps reach, forms G for kChannels channels at a time in shared memory, and adds their part
// of the 1x1 convolution to sums in registers.
#include "maam/maam.h"

#include <algorithm>

#include "core/cuda/block.h"
#include "core/cuda/launch.h"
#include "core/cuda/softmax.h"
#include "core/error.h"
#include "core/scratch.h"

namespace maam {
namespace cuda {
namespace {

constexpr const char* kOp = "MaamInference";
constexpr int kTile = 8;  // pooled pixels each way
constexpr int kPixels = kTile * kTile;
constexpr int kGroup = 4;  // channels of a thread
constexpr int kChannels = kGroup * kThreads / kPixels;
constexpr int kOutputs = 128;    // of a block
constexpr int kOutputsEach = 8;  // of a thread, for kPixelsEach pixels
constexpr int kPixelsEach = 4;
constexpr int kPatchFloats = 6144;  // staged pixels of as many input channels as fit

int64_t DivideUp(int64_t a, int64_t b) { return (a + b - 1) / b; }

struct Convolution {
  const float* weight;
  const float* gamma;
  const float* beta;
  const float* mean;
  const float* variance;
  float* folded;  // of a branch: (taps, channels), padded with zeros to kChannels; of the reduction (channels, outputs)
  float* shift;
  int kernel;
};

struct Operands {
  const float* x;
  const float* alpha;
  const double* eps;
  float* f;
  int branches;
  int64_t batch, inputs, channels, outputs, height, width;
  int64_t padded_channels, padded_outputs;
  Convolution convolution[kMaxBranches + 1];  // the branches, then the reduction
};

// Element i of a convolution's folded weight, (lines, columns) of which `line` counts taps or channels.
MAAM_DEVICE void FoldElement(const Operands& p, int k, float mix, int64_t line, int64_t column) {
  const Convolution& c = p.convolution[k];
  const bool reduction = k == p.branches;
  const int64_t lines = reduction ? p.channels : p.inputs * c.kernel * c.kernel;
  const int64_t columns = reduction ? p.outputs : p.channels;
  const int64_t padded = reduction ? p.padded_outputs : p.padded_channels;
  const bool exists = line < lines && column < columns;
  double scale = 0;
  if (column < columns) scale = mix * (Load(c.gamma, column) / sqrt(Load(c.variance, column) + Load(p.eps, k)));
  const float weight = exists ? Load(c.weight, column * lines + line) : 0.0f;
  Store(c.folded, line * padded + column, weight * static_cast<float>(scale));
  if (line != 0) return;
  const double shift = column < columns ? mix * double{Load(c.beta, column)} - Load(c.mean, column) * scale : 0.0;
  Store(c.shift, column, static_cast<float>(shift));
}

// Blocks: convolutions, times as many as the largest folded weight takes.
__global__ void __launch_bounds__(kThreads) FoldKernel(const Operands p, int64_t blocks_each) {
  const int k = static_cast<int>(blockIdx.x / blocks_each);
  const bool reduction = k == p.branches;
  const int64_t kernel = p.convolution[k].kernel;
  const int64_t padded = reduction ? p.padded_outputs : p.padded_channels;
  const int64_t lines = reduction ? p.padded_channels : p.inputs * kernel * kernel;
  float mix[kMaxBranches];
  Softmax(p.alpha, p.branches, mix);
  float own = 1;
#pragma unroll
  for (int i = 0; i < kMaxBranches; ++i) own = i == k && !reduction ? mix[i] : own;
  const int64_t i = blockIdx.x % blocks_each * kThreads + threadIdx.x;
  if (i < lines * padded) FoldElement(p, k, own, i / padded, i % padded);
}

// The pixels of input channels [first, first + count) under a tile, `border` of them around it, zeros outside.
MAAM_DEVICE void StagePatch(const Operands& p, int64_t image, int64_t top, int64_t left, int edge, int border,
                            int64_t first, int count, Shared<float> patch) {
  for (int i = threadIdx.x; i < count * edge * edge; i += kThreads) {
    const int64_t y = 2 * top + i / edge % edge - border;
    const int64_t x = 2 * left + i % edge - border;
    const bool inside = y >= 0 && y < p.height && x >= 0 && x < p.width;
    const int64_t channel = image * p.inputs + first + i / (edge * edge);
    patch.Set(i, inside ? Load(p.x, (channel * p.height + y) * p.width + x) : 0.0f);
  }
}

// Adds input channels [first, first + count) of a branch to z: kGroup channels of the four pixels of a pooled one.
template <int kKernel>
MAAM_DEVICE void AddInputs(const Convolution& c, int64_t padded, int64_t channel, int edge, int border, int64_t first,
                           int count, Shared<float> patch, float (&z)[kGroup][4]) {
  constexpr int kSide = kKernel + 1;
  const int row = threadIdx.x % kPixels / kTile * 2 + border - kKernel / 2;
  const int column = threadIdx.x % kTile * 2 + border - kKernel / 2;
#pragma unroll 1
  for (int input = 0; input < count; ++input) {
    float x[kSide][kSide];
#pragma unroll
    for (int y = 0; y < kSide; ++y) {
#pragma unroll
      for (int i = 0; i < kSide; ++i) x[y][i] = patch.Get((input * edge + row + y) * edge + column + i);
    }
    int64_t at = (first + input) * (kKernel * kKernel) * padded + channel;
#pragma unroll
    for (int tap = 0; tap < kKernel * kKernel; ++tap, at += padded) {
      const Pack<float> w = LoadPack(static_cast<const float*>(c.folded), at);
#pragma unroll
      for (int g = 0; g < kGroup; ++g) {
#pragma unroll
        for (int pixel = 0; pixel < 4; ++pixel) {
          z[g][pixel] = fma(w.lane[g], x[tap / kKernel + pixel / 2][tap % kKernel + pixel % 2], z[g][pixel]);
        }
      }
    }
  }
}

__global__ void __launch_bounds__(kThreads, 2) MaamInferenceKernel(const Operands p, int edge, int border) {
  MAAM_SHARED_MEMORY(memory, (kPatchFloats + kChannels * kPixels) * 4);
  const Shared<float> patch(memory);
  const Shared<float> panel(memory + kPatchFloats * 4);
  const int64_t rows = p.height / 2;
  const int64_t columns = p.width / 2;
  const int64_t tiles_across = (columns + kTile - 1) / kTile;
  const int64_t tiles = (rows + kTile - 1) / kTile * tiles_across;
  const int64_t output_groups = p.padded_outputs / kOutputs;
  const int64_t tile = blockIdx.x / output_groups % tiles;
  const int64_t image = blockIdx.x / output_groups / tiles;
  const int64_t top = tile / tiles_across * kTile;
  const int64_t left = tile % tiles_across * kTile;

  const int staged =
      kPatchFloats / (edge * edge) < p.inputs ? kPatchFloats / (edge * edge) : static_cast<int>(p.inputs);
  const bool whole = staged == p.inputs;
  if (whole) {
    StagePatch(p, image, top, left, edge, border, 0, staged, patch);
    __syncthreads();
  }
  const Convolution& reduction = p.convolution[p.branches];
  const int64_t output = blockIdx.x % output_groups * kOutputs + threadIdx.x / 16 * kOutputsEach;
  const int pixel = threadIdx.x % 16 * kPixelsEach;
  float f[kOutputsEach][kPixelsEach] = {};
  for (int64_t first = 0; first < p.channels; first += kChannels) {
    const int64_t channel = first + threadIdx.x / kPixels * kGroup;
    float sum[kGroup] = {};
    for (int k = 0; k < p.branches; ++k) {
      const Convolution& c = p.convolution[k];
      float z[kGroup][4] = {};
      for (int64_t input = 0; input < p.inputs; input += staged) {
        const int count = p.inputs - input < staged ? static_cast<int>(p.inputs - input) : staged;
        if (!whole) {
          __syncthreads();
          StagePatch(p, image, top, left, edge, border, input, count, patch);
          __syncthreads();
        }
        switch (c.kernel) {
          case 1:
            AddInputs<1>(c, p.padded_channels, channel, edge, border, input, count, patch, z);
            break;
          case 3:
            AddInputs<3>(c, p.padded_channels, channel, edge, border, input, count, patch, z);
            break;
          case 5:
            AddInputs<5>(c, p.padded_channels, channel, edge, border, input, count, patch, z);
            break;
          default:
            AddInputs<7>(c, p.padded_channels, channel, edge, border, input, count, patch, z);
        }
      }
#pragma unroll
      for (int g = 0; g < kGroup; ++g) {
        // fmaxf takes the other operand where one is NaN, so that a NaN counts as "not above zero".
        const float shift = Load(static_cast<const float*>(c.shift), channel + g);
        float largest = -shift;
#pragma unroll
        for (int i = 0; i < 4; ++i) largest = fmaxf(z[g][i], largest);
        const float pooled = largest + shift;
        sum[g] += pooled > 0 ? pooled : 0.0f;
      }
    }
#pragma unroll
    for (int g = 0; g < kGroup; ++g) {
      panel.Set((threadIdx.x / kPixels * kGroup + g) * kPixels + threadIdx.x % kPixels, sum[g]);
    }
    __syncthreads();
#pragma unroll 4
    for (int c = 0; c < kChannels; ++c) {
      const Pack<float> g = panel.GetPack(c * kPixels + pixel);
#pragma unroll
      for (int o = 0; o < kOutputsEach; o += 4) {
        const Pack<float> w =
            LoadPack(static_cast<const float*>(reduction.folded), (first + c) * p.padded_outputs + output + o);
#pragma unroll
        for (int i = 0; i < 4; ++i) {
#pragma unroll
          for (int j = 0; j < kPixelsEach; ++j) f[o + i][j] = fma(w.lane[i], g.lane[j], f[o + i][j]);
        }
      }
    }
    __syncthreads();
  }
  const int64_t row = top + pixel / kTile;
#pragma unroll
  for (int o = 0; o < kOutputsEach; ++o) {
    if (output + o >= p.outputs || row >= rows) continue;
    const float shift = Load(static_cast<const float*>(reduction.shift), output + o);
    const int64_t line = ((image * p.outputs + output + o) * rows + row) * columns;
#pragma unroll
    for (int j = 0; j < kPixelsEach; ++j) {
      const int64_t column = left + pixel % kTile + j;
      const float y = f[o][j] + shift;
      if (column < columns) Store(p.f, line + column, y > 0 ? y : 0.0f);
    }
  }
}

void ExpectFloat32(const MaamInference& p) {
  bool halves = p.dtype != DType::kFloat32;
  for (int k = 0; k <= p.branches; ++k) halves = halves || (k < p.branches ? p.branch[k] : p.reduce).half != nullptr;
  if (halves) Fail(kOp, "x or a weight", "a half type", "float32, the type of this operator on CUDA");
}

// Working memory: the folded weights and shifts of the branches and of the reduction.
struct Layout {
  int64_t padded_channels, padded_outputs;
  int64_t largest = 0;  // folded weight, in elements
  int64_t folded[kMaxBranches + 1], shift[kMaxBranches + 1], total;

  explicit Layout(const MaamInference& p)
      : padded_channels(RoundUp(p.channels, kChannels)), padded_outputs(RoundUp(p.outputs, kOutputs)) {
    ScratchLayout layout;
    for (int k = 0; k <= p.branches; ++k) {
      const bool reduction = k == p.branches;
      const int64_t columns = reduction ? padded_outputs : padded_channels;
      const int64_t lines = reduction ? padded_channels : p.inputs * p.branch[k].kernel * p.branch[k].kernel;
      largest = std::max(largest, lines * columns);
      folded[k] = layout.Take(lines * columns * 4);
      shift[k] = layout.Take(columns * 4);
    }
    total = layout.Total();
  }
};

}  // namespace
}  // namespace cuda

Isa MaamInferenceIsa(const MaamInference&) { return Isa::kCuda; }

// The kernels read the constants where they lie.
double MaamConstant(const double*, int) { return 0; }

int64_t MaamInferenceScratch(const MaamInference& p) { return cuda::Layout(p).total; }

void RunMaamInference(const MaamInference& p) {
  using namespace cuda;
  ExpectFloat32(p);
  const Layout layout(p);
  const Workspace workspace(kOp, p.stream, layout.total);
  Operands operands = {};
  operands.x = static_cast<const float*>(p.x);
  operands.alpha = p.alpha;
  operands.eps = p.constants;
  operands.f = static_cast<float*>(p.f);
  operands.branches = p.branches;
  operands.batch = p.batch;
  operands.inputs = p.inputs;
  operands.channels = p.channels;
  operands.outputs = p.outputs;
  operands.height = p.height;
  operands.width = p.width;
  operands.padded_channels = layout.padded_channels;
  operands.padded_outputs = layout.padded_outputs;
  int border = 0;
  for (int k = 0; k <= p.branches; ++k) {
    const ConvNorm& c = k == p.branches ? p.reduce : p.branch[k];
    border = std::max(border, static_cast<int>(c.kernel / 2));
    operands.convolution[k] = {c.weight,
                               c.gamma,
                               c.beta,
                               c.mean,
                               c.variance,
                               workspace.At<float>(layout.folded[k]),
                               workspace.At<float>(layout.shift[k]),
                               static_cast<int>(c.kernel)};
  }
  const int64_t blocks_each = DivideUp(layout.largest, kThreads);
  Launch(kOp, p.stream, (p.branches + 1) * blocks_each, kThreads, FoldKernel, operands, blocks_each);
  const int64_t tiles = DivideUp(p.height / 2, kTile) * DivideUp(p.width / 2, kTile);
  Launch(kOp, p.stream, p.batch * tiles * (layout.padded_outputs / kOutputs), kThreads, MaamInferenceKernel, operands,
         2 * kTile + 2 * border, border);
}

}  // namespace maam
