// The kernel, written once and compiled for each instruction set (cpu.cc, cpu_avx2.cc, cpu_avx512.cc).
#include "core/simd.h"
#include "dense/kernels.h"

namespace maam {
namespace MAAM_ISA {
namespace dense {

using V = F32;

// Rows of the batch whose dot products with kOutputs rows of W are in registers at a time.
constexpr int kRows = kRegisters == 32 ? 4 : 3;

// sum[r][o] += x_r w_o for one vector of inputs from k on, or its first n.
template <bool kWhole, int kRowsHere>
MAAM_INLINE void Step(const float* const (&x)[kRowsHere], const float* const (&w)[kOutputs], int64_t k, int64_t n,
                      V (&sum)[kRowsHere * kOutputs]) {
  V row[kRowsHere];
#pragma GCC unroll 4
  for (int r = 0; r < kRowsHere; ++r) row[r] = kWhole ? Load(x[r] + k) : LoadFirst(x[r] + k, n);
#pragma GCC unroll 4
  for (int o = 0; o < kOutputs; ++o) {
    const V weight = kWhole ? Load(w[o] + k) : LoadFirst(w[o] + k, n);
#pragma GCC unroll 4
    for (int r = 0; r < kRowsHere; ++r) sum[r * kOutputs + o] = Fma(row[r], weight, sum[r * kOutputs + o]);
  }
}

// dot[r * kOutputs + o] = <x_r, w_o> over `depth` inputs.
template <int kRowsHere>
MAAM_INLINE void Dots(const float* const (&x)[kRowsHere], const float* const (&w)[kOutputs], int64_t depth,
                      float (&dot)[kRowsHere * kOutputs]) {
  constexpr int kDots = kRowsHere * kOutputs;
  V sum[kDots];
#pragma GCC unroll 16
  for (int i = 0; i < kDots; ++i) sum[i] = Set(0.0f);
  int64_t k = 0;
  for (; k + V::kLanes <= depth; k += V::kLanes) Step<true>(x, w, k, V::kLanes, sum);
  if (k < depth) Step<false>(x, w, k, depth - k, sum);
#pragma GCC unroll 4
  for (int first = 0; first < kDots; first += V::kLanes) {
    V part[V::kLanes];
#pragma GCC unroll 16
    for (int i = 0; i < V::kLanes; ++i) part[i] = first + i < kDots ? sum[first + i] : Set(0.0f);
    float lanes[V::kLanes];
    Store(lanes, SumEach(part));
    for (int i = 0; i < V::kLanes && first + i < kDots; ++i) dot[first + i] = lanes[i];
  }
}

// Rows of x in working memory, rows of W, and the part of the result where they meet.
struct Block {
  const float* x;
  int64_t x_stride;
  const float* weight;
  int64_t weight_stride;
  float* partial;
  int64_t outputs;  // kOutputs, or fewer in the last block
  int64_t depth;
  bool first;  // of its segment: nothing to add to
};

template <int kRowsHere>
static void AddRows(const DenseForward& p, const Block& b, int64_t row) {
  const float* x[kRowsHere];
  const float* w[kOutputs];
  for (int r = 0; r < kRowsHere; ++r) x[r] = b.x + (row + r) * b.x_stride;
  for (int o = 0; o < kOutputs; ++o) w[o] = b.weight + (o < b.outputs ? o : b.outputs - 1) * b.weight_stride;
  float dot[kRowsHere * kOutputs];
  Dots<kRowsHere>(x, w, b.depth, dot);
  float* to = b.partial + row * PartialStride(p);
  for (int r = 0; r < kRowsHere; ++r, to += PartialStride(p)) {
    const float* add = dot + r * kOutputs;
    if (b.first) {
      for (int o = 0; o < kOutputs; ++o) to[o] = add[o];
    } else {
      for (int o = 0; o < kOutputs; ++o) to[o] += add[o];
    }
  }
}

// Vector by vector: memcpy of such lengths becomes `rep movs`, which took an eighth of the whole time.
static void CopyRows(const float* from, int64_t from_stride, int64_t rows, int64_t length, float* to,
                     int64_t to_stride) {
  for (int64_t r = 0; r < rows; ++r, from += from_stride, to += to_stride) {
    int64_t i = 0;
    for (; i + V::kLanes <= length; i += V::kLanes) Store(to + i, Load(from + i));
    if (i < length) StoreFirst(to + i, LoadFirst(from + i, length - i), length - i);
  }
}

// All rows of a chunk of x, in working memory, times a few rows of W. Meanwhile `ahead`, the same part of W to come,
// is brought into the L2 cache bit by bit: left to the copying, memory and multiply-adds would wait for one another.
static void AddOutputs(const DenseForward& p, const Block& b, int64_t rows, const float* ahead) {
  const int64_t each = b.depth / rows;
  for (int64_t row = 0; row < rows;) {
    const int64_t next = row + kRows <= rows ? row + kRows : row + 1;
    for (int o = 0; o < b.outputs && ahead != nullptr; ++o) {
      Prefetch(ahead + o * p.inputs + row * each, (next - row) * each * static_cast<int64_t>(sizeof(float)));
    }
    next - row == kRows ? AddRows<kRows>(p, b, row) : AddRows<1>(p, b, row);
    row = next;
  }
}

// With many rows of x. Both operands are copied before they are used many times: rows a power of two apart fall into
// the same few sets of the caches, and on AMD their lines are even mistaken for one another (three times slower).
static void ManyRows(const DenseForward& p, const DenseSegment& s, float* partial, float* packed) {
  float* packed_weight = packed + kChunk * kPackedStride;
  for (int64_t k = s.k; k < s.k + s.depth; k += kDepth) {
    const int64_t depth = s.k + s.depth - k < kDepth ? s.k + s.depth - k : kDepth;
    for (int64_t first = 0; first < p.batch; first += kChunk) {
      const int64_t rows = p.batch - first < kChunk ? p.batch - first : kChunk;
      CopyRows(p.x + first * p.inputs + k, p.inputs, rows, depth, packed, kPackedStride);
      for (int64_t o = s.begin; o < s.end; o += kOutputs) {
        const int64_t outputs = s.end - o < kOutputs ? s.end - o : kOutputs;
        const float* weight = p.weight + o * p.inputs + k;
        CopyRows(weight, p.inputs, outputs, depth, packed_weight, kPackedStride);
        const Block block{packed,  kPackedStride, packed_weight, kPackedStride, partial + first * PartialStride(p) + o,
                          outputs, depth,         k == s.k};
        AddOutputs(p, block, rows, o + 2 * kOutputs <= s.end ? weight + kOutputs * p.inputs : nullptr);
      }
    }
  }
}

// With few rows of x each row of W is read once, in one go and in place, at the speed of memory.
static void FewRows(const DenseForward& p, const DenseSegment& s, float* partial) {
  for (int64_t o = s.begin; o < s.end; o += kOutputs) {
    const int64_t outputs = s.end - o < kOutputs ? s.end - o : kOutputs;
    for (int64_t k = s.k; k < s.k + s.depth; k += kDepth) {
      const int64_t depth = s.k + s.depth - k < kDepth ? s.k + s.depth - k : kDepth;
      const Block block{p.x + k, p.inputs, p.weight + o * p.inputs + k, p.inputs, partial + o, outputs,
                        depth,   k == s.k};
      AddOutputs(p, block, p.batch, nullptr);
    }
  }
}

static void Finish(const DenseForward& p, const float* partial, int64_t begin, int64_t end) {
  for (int64_t row = begin; row < end; ++row) {
    float* y = p.y + row * p.outputs;
    for (int64_t o = 0; o < p.outputs; ++o) y[o] = p.bias != nullptr ? p.bias[o] : 0;
    for (int64_t k = 0; k < p.inputs; k += kSegment) {
      const float* from = partial + (k / kSegment * p.batch + row) * PartialStride(p);
      for (int64_t o = 0; o < p.outputs; ++o) y[o] += from[o];
    }
    if (!p.relu) continue;
    for (int64_t o = 0; o < p.outputs; ++o) y[o] = y[o] > 0 ? y[o] : 0;  // NaN becomes 0, as in MindSpore's ReLU
  }
}

}  // namespace dense
}  // namespace MAAM_ISA

void MAAM_VARIANT(dense_segment)(const DenseForward& p, const DenseSegment& s, float* partial, float* packed) {
  using namespace MAAM_ISA::dense;
  p.batch <= kRows ? FewRows(p, s, partial) : ManyRows(p, s, partial, packed);
}

void MAAM_VARIANT(dense_finish)(const DenseForward& p, const float* partial, int64_t begin, int64_t end) {
  MAAM_ISA::dense::Finish(p, partial, begin, end);
}

}  // namespace maam
