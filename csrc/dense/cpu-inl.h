// The forward kernel, written once and compiled for each instruction set (cpu.cc, cpu_avx2.cc, cpu_avx512.cc).
#include "core/gemm-inl.h"
#include "core/simd.h"
#include "dense/kernels.h"

namespace maam {
namespace MAAM_ISA {
namespace dense {

using V = F32;

// Rows of W by vectors of rows of x in registers.
constexpr int kOutputs = kRegisters == 32 ? 12 : Block<V>::kRows;
constexpr int kVectors = 2;
constexpr int kColumns = kVectors * V::kLanes;
static_assert(kOutputsAtOnce % kOutputs == 0 && kChunk % kColumns == 0 && kDepth % kColumns == 0);

// The first `length` elements of each row as float32, then zeros up to a whole vector. Vector by vector: memcpy of such
// lengths becomes `rep movs`, which took an eighth of the whole time.
template <class T>
static void PackRows(const T* from, int64_t from_stride, int64_t rows, int64_t length, float* to, int64_t to_stride) {
  for (int64_t r = 0; r < rows; ++r, from += from_stride, to += to_stride) {
    int64_t i = 0;
    for (; i + V::kLanes <= length; i += V::kLanes) Store(to + i, Load(from + i));
    if (i < length) Store(to + i, LoadFirst(from + i, length - i));
  }
}

// Brings the parts of rows that are packed next into the L2 cache, line by line while the present is computed: left to
// the packing, memory and multiply-adds would wait for one another, and a burst of requests stalls them as well.
class Ahead {
 public:
  Ahead() = default;
  template <class T>
  Ahead(const T* from, int64_t stride, int64_t rows, int64_t length)
      : next_(reinterpret_cast<const char*>(from)),
        stride_(stride * static_cast<int64_t>(sizeof(T))),
        bytes_(length * static_cast<int64_t>(sizeof(T))),
        rows_(length > 0 ? rows : 0) {}

  int64_t Lines() const { return rows_ * (bytes_ / kCacheLine + 1); }
  MAAM_MEMBER void Fetch() {
    if (rows_ <= 0) return;
    __builtin_prefetch(next_ + at_, 0, 2);
    at_ += kCacheLine;
    if (at_ < bytes_ + kCacheLine) return;
    at_ = 0;
    next_ += stride_;
    --rows_;
  }

 private:
  const char* next_ = nullptr;
  int64_t stride_ = 0, bytes_ = 0, rows_ = 0, at_ = 0;
};

// Takes the rows of a product to those of partial, and meanwhile fetches what comes next.
template <bool kAdd>
class Adder {
 public:
  // `idles`: calls of Idle() to come before what is fetched is wanted.
  Adder(float* partial, int64_t stride, const Ahead& ahead, int64_t idles)
      : partial_(partial), stride_(stride), ahead_(ahead), lines_(ahead.Lines()), idles_(idles) {}

  void To(int64_t column) { column_ = column; }
  MAAM_MEMBER void Idle() {
    for (due_ += lines_; due_ >= idles_; due_ -= idles_) ahead_.Fetch();
  }
  template <int kCount>
  MAAM_MEMBER void Take(int64_t first, int r, int64_t, V (&sums)[kCount]) {
    float* to = partial_ + (first + r) * stride_ + column_;
#pragma GCC unroll 2
    for (int v = 0; v < kCount; ++v, to += V::kLanes) Store(to, kAdd ? Add(Load(to), sums[v]) : sums[v]);
  }

 private:
  float* const partial_;
  const int64_t stride_;
  Ahead ahead_;
  const int64_t lines_, idles_;
  int64_t column_ = 0, due_ = 0;
};

// Up to kChunk rows of x, kDepth inputs of each, as panels: for each input the rows of a panel side by side, zeros for
// those that do not exist.
static void TransposeRows(const float* rows, int64_t count, int64_t depth, float* panels) {
  for (int64_t first = 0; first < count; first += kColumns) {
    for (int64_t k = 0; k < depth; k += V::kLanes) {
      for (int64_t x = 0; x < kColumns; x += V::kLanes) {
        TransposeSquare<V>(rows + (first + x) * kPackedStride + k, kPackedStride, panels + k * kColumns + x, kColumns);
      }
    }
    panels += kDepth * kColumns;
  }
}

// Outputs [begin, end) of a piece of the product: packed W times the panels. The first panel finds W still where the
// layer keeps it.
template <bool kAdd, class W>
static void MultiplyOutputs(const DenseForward& p, const W* weight, int64_t begin, int64_t end, int64_t depth,
                            const float* panels, int64_t columns, float* packed, const Ahead& ahead, float* partial) {
  const int64_t stride = PartialColumns(p);
  const int64_t groups = (end - begin + kOutputs - 1) / kOutputs;
  const int64_t blocks = (columns + kColumns - 1) / kColumns;
  Adder<kAdd> adder(partial, stride, ahead, groups * blocks * ((depth + kIdleSteps - 1) / kIdleSteps));
  for (int64_t x = 0; x < columns; x += kColumns) {
    const float* panel = panels + x * kDepth;
    adder.To(x);
    for (int64_t o = begin; o < end; o += kOutputs) {
      const int64_t outputs = end - o < kOutputs ? end - o : kOutputs;
      float* rows = packed + (o - begin) * kPackedStride;
      if (x == 0) PackRows(weight + o * p.inputs, p.inputs, outputs, depth, rows, kPackedStride);
      const float* row[kOutputs];
      for (int r = 0; r < kOutputs; ++r) row[r] = rows + (r < outputs ? r : outputs - 1) * kPackedStride;
      if (columns - x > V::kLanes) {
        EmitBlock<V, kOutputs, kVectors>(row, depth, panel, kColumns, o, outputs, 0, adder);
      } else {
        EmitBlock<V, kOutputs, 1>(row, depth, panel, kColumns, o, outputs, 0, adder);
      }
    }
  }
}

// With many rows of x. Both operands are copied before they are used many times: rows a power of two apart fall into
// the same few sets of the caches, and on AMD their lines are even mistaken for one another (three times slower).
template <class X, class W>
static void ManyRows(const DenseForward& p, const DenseSegment& s, float* partial, float* memory) {
  float* panels = memory;
  float* rows = panels + kChunk * kDepth;
  float* packed = rows + kChunk * kPackedStride;
  for (int64_t first = 0; first < p.batch; first += kChunk) {
    const int64_t count = p.batch - first < kChunk ? p.batch - first : kChunk;
    for (int64_t k = 0; k < s.depth; k += kDepth) {
      const int64_t depth = s.depth - k < kDepth ? s.depth - k : kDepth;
      const int64_t whole = RoundUp(depth, V::kLanes);
      const X* x = static_cast<const X*>(p.x) + first * p.inputs + s.k + k;
      const W* weight = static_cast<const W*>(p.weight) + s.k + k;
      PackRows(x, p.inputs, count, depth, rows, kPackedStride);
      for (int64_t r = count; r < RoundUp(count, kColumns); ++r) {
        for (int64_t i = 0; i < whole; ++i) rows[r * kPackedStride + i] = 0;
      }
      TransposeRows(rows, count, whole, panels);
      for (int64_t begin = s.begin; begin < s.end; begin += kOutputsAtOnce) {
        const int64_t end = s.end - begin < kOutputsAtOnce ? s.end : begin + kOutputsAtOnce;
        const int64_t next = s.end - end < kOutputsAtOnce ? s.end - end : kOutputsAtOnce;
        const int64_t left = s.depth - k - depth < kDepth ? s.depth - k - depth : kDepth;
        const Ahead ahead =
            next > 0 ? Ahead(weight + end * p.inputs, p.inputs, next, depth) : Ahead(x + depth, p.inputs, count, left);
        (k > 0 ? MultiplyOutputs<true, W> : MultiplyOutputs<false, W>)(p, weight, begin, end, depth, panels, count,
                                                                       packed, ahead, partial + first);
      }
    }
  }
}

template <bool kWhole, class T>
MAAM_INLINE V LoadPart(const T* p, int64_t n) {
  return kWhole ? Load(p) : LoadFirst(p, n);
}

// sum[r][o] += x_r w_o for one vector of inputs from k on, or the first n of w.
template <bool kWhole, int kR, int kO, class W>
MAAM_INLINE void Step(const float* const (&x)[kR], const W* const (&w)[kO], int64_t k, int64_t n, V (&sum)[kR * kO]) {
  V weight[kO];
#pragma GCC unroll 8
  for (int o = 0; o < kO; ++o) weight[o] = LoadPart<kWhole>(w[o] + k, n);
#pragma GCC unroll 8
  for (int r = 0; r < kR; ++r) {
    const V row = Load(x[r] + k);
#pragma GCC unroll 8
    for (int o = 0; o < kO; ++o) sum[r * kO + o] = Fma(row, weight[o], sum[r * kO + o]);
  }
}

// Rows of W at the speed of memory: kO of them at a time, read once, in one go and in place.
template <int kR, int kO, class W>
static void FewRows(const DenseForward& p, const DenseSegment& s, float* partial, const float* packed) {
  const float* x[kR];
  for (int r = 0; r < kR; ++r) x[r] = packed + r * kSegment;
  for (int64_t first = s.begin; first < s.end; first += kO) {
    const W* w[kO];
    for (int o = 0; o < kO; ++o) {
      w[o] = static_cast<const W*>(p.weight) + (first + o < s.end ? first + o : s.end - 1) * p.inputs + s.k;
    }
    V sum[kR * kO];
#pragma GCC unroll 16
    for (int i = 0; i < kR * kO; ++i) sum[i] = Set(0.0f);
    int64_t k = 0;
    for (; k + V::kLanes <= s.depth; k += V::kLanes) Step<true>(x, w, k, V::kLanes, sum);
    if (k < s.depth) Step<false>(x, w, k, s.depth - k, sum);
#pragma GCC unroll 16
    for (int i = 0; i < kR * kO; ++i) {
      const int64_t o = first + i % kO;
      if (o < s.end) partial[o * kR + i / kO] = static_cast<float>(SumLanes(sum[i]));
    }
  }
}

template <class X, class W>
static void Segment(const DenseForward& p, const DenseSegment& s, float* partial, float* memory) {
  if (p.batch > kFewRows) return ManyRows<X, W>(p, s, partial, memory);
  PackRows(static_cast<const X*>(p.x) + s.k, p.inputs, p.batch, s.depth, memory, kSegment);
  switch (p.batch) {
    case 1:
      return FewRows<1, 8, W>(p, s, partial, memory);
    case 2:
      return FewRows<2, 4, W>(p, s, partial, memory);
    case 3:
      return FewRows<3, 4, W>(p, s, partial, memory);
    default:
      return FewRows<4, 3, W>(p, s, partial, memory);
  }
}

// A few columns of y at a time, because their lines in its rows are shared.
template <class X, class B>
static void Finish(const DenseForward& p, const float* partial, int64_t begin, int64_t end) {
  const int64_t columns = PartialColumns(p);
  const B* bias = static_cast<const B*>(p.bias);
  X* y = static_cast<X*>(p.y);
  for (int64_t row = 0; row < p.batch; row += V::kLanes) {
    const int64_t rows = p.batch - row < V::kLanes ? p.batch - row : V::kLanes;
    for (int64_t o = begin; o < end; ++o) {
      const float start = bias != nullptr ? ToFloat(bias[o]) : 0;
      float sum[V::kLanes];
      for (int64_t r = 0; r < rows; ++r) sum[r] = start;
      const float* from = partial + o * columns + row;
      for (int64_t k = 0; k < p.inputs; k += kSegment, from += p.outputs * columns) {
        for (int64_t r = 0; r < rows; ++r) sum[r] += from[r];
      }
      for (int64_t r = 0; r < rows; ++r) {
        // NaN becomes 0, as in MindSpore's ReLU.
        Assign(y[(row + r) * p.outputs + o], !p.relu || sum[r] > 0 ? sum[r] : 0);
      }
    }
  }
}

}  // namespace dense
}  // namespace MAAM_ISA

void MAAM_VARIANT(dense_segment)(const DenseForward& p, const DenseSegment& s, float* partial, float* memory) {
  WithSingleType(p.dtype, [&]<class X>(X*) {
    WithSingleType(p.weight_dtype, [&]<class W>(W*) { MAAM_ISA::dense::Segment<X, W>(p, s, partial, memory); });
  });
}

void MAAM_VARIANT(dense_finish)(const DenseForward& p, const float* partial, int64_t begin, int64_t end) {
  WithSingleType(p.dtype, [&]<class X>(X*) {
    WithSingleType(p.bias_dtype, [&]<class B>(B*) { MAAM_ISA::dense::Finish<X, B>(p, partial, begin, end); });
  });
}

}  // namespace maam
