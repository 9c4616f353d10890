// The forward kernel, written once and compiled for each instruction set (cpu.cc, cpu_avx2.cc, cpu_avx512.cc ...).
#include "core/simd.h"
#include "dense/kernels.h"

namespace maam {
namespace MAAM_ISA {
namespace dense {

using V = F32;

// Rows of the batch whose dot products with kOutputs rows of W are in registers at a time.
constexpr int kRows = kRegisters == 32 ? 4 : 3;

// What dot products read, kStep elements at a time, and how these join their sums. Behind the last element is zero.
struct Singles {
  using Element = float;
  using Vector = V;
  static constexpr int kStep = V::kLanes;
  template <class T>
  static MAAM_MEMBER Vector Read(const T* p) {
    return Load(p);
  }
  template <class T>
  static MAAM_MEMBER Vector ReadFirst(const T* p, int64_t n) {
    return LoadFirst(p, n);
  }
  static MAAM_MEMBER void Write(float* p, Vector x) { Store(p, x); }
  static MAAM_MEMBER V MultiplyAdd(Vector a, Vector b, V sum) { return Fma(a, b, sum); }
};

#if defined(__AVX512BF16__)
// Twice the products a cycle. The instruction takes denormals for zero, in what it reads and in its sums.
struct Pairs {
  using Element = BFloat16;
  using Vector = __m512i;
  static constexpr int kStep = 32;
  static MAAM_MEMBER Vector Read(const BFloat16* p) { return _mm512_loadu_si512(p); }
  static MAAM_MEMBER Vector ReadFirst(const BFloat16* p, int64_t n) {
    return _mm512_maskz_loadu_epi16(static_cast<__mmask32>((uint32_t{1} << n) - 1), p);
  }
  static MAAM_MEMBER void Write(BFloat16* p, Vector x) { _mm512_storeu_si512(p, x); }
  static MAAM_MEMBER V MultiplyAdd(Vector a, Vector b, V sum) {
    return {_mm512_dpbf16_ps(sum.v, (__m512bh)a, (__m512bh)b)};
  }
};
#endif

template <class X, class W>
struct FormOf {
  using Type = Singles;
};
#if defined(__AVX512BF16__)
template <>
struct FormOf<BFloat16, BFloat16> {
  using Type = Pairs;
};
#endif

// The first `length` elements of each row, and zeros up to a whole step. Vector by vector: memcpy of such lengths
// becomes `rep movs`, which took an eighth of the whole time.
template <class Form, class T>
static void PackRows(const T* from, int64_t from_stride, int64_t rows, int64_t length, typename Form::Element* to,
                     int64_t to_stride) {
  for (int64_t r = 0; r < rows; ++r, from += from_stride, to += to_stride) {
    int64_t i = 0;
    for (; i + Form::kStep <= length; i += Form::kStep) Form::Write(to + i, Form::Read(from + i));
    if (i < length) Form::Write(to + i, Form::ReadFirst(from + i, length - i));
  }
}

// Brings what is packed next into the caches, a line now and then while the present is computed: left to the packing,
// memory and multiply-adds would wait for one another, and a burst of requests stalls them as well.
class Ahead {
 public:
  // Parts of rows, `stride` elements apart, to be fetched in `calls` calls.
  template <class T>
  Ahead(const T* from, int64_t stride, int64_t rows, int64_t length, int64_t calls)
      : next_(reinterpret_cast<const char*>(from)),
        stride_(stride * static_cast<int64_t>(sizeof(T))),
        bytes_(length * static_cast<int64_t>(sizeof(T))),
        rows_(rows),
        lines_((rows * (bytes_ / kCacheLine + 1) + calls - 1) / calls) {}

  MAAM_MEMBER void Fetch() {
    for (int64_t i = 0; i < lines_ && rows_ > 0; ++i) {
      __builtin_prefetch(next_ + at_, 0, 3);
      at_ += kCacheLine;
      if (at_ < bytes_) continue;
      at_ = 0;
      next_ += stride_;
      --rows_;
    }
  }

 private:
  const char* next_;
  int64_t stride_, bytes_, rows_, lines_, at_ = 0;
};
constexpr int kStepsOfFetch = 4;

// Rows of an operand: copied ones, so far apart that one register leads to all of them,
template <class Form, int64_t kStride>
struct Packed {
  const typename Form::Element* first;
  template <bool kWhole>
  MAAM_MEMBER typename Form::Vector Get(int row, int64_t k, int64_t) const {
    return Form::Read(first + row * kStride + k);
  }
};
// where they are,
template <class Form, class T, int kCount>
struct InPlace {
  const T* row[kCount];
  template <bool kWhole>
  MAAM_MEMBER typename Form::Vector Get(int i, int64_t k, int64_t n) const {
    return kWhole ? Form::Read(row[i] + k) : Form::ReadFirst(row[i] + k, n);
  }
};
// or copied while they are read for the first time, so that multiply-adds go on while they come.
template <class Form, class T, int kCount>
struct Copied {
  InPlace<Form, T, kCount> from;
  typename Form::Element* to;
  template <bool kWhole>
  MAAM_MEMBER typename Form::Vector Get(int i, int64_t k, int64_t n) const {
    const typename Form::Vector v = from.template Get<kWhole>(i, k, n);
    Form::Write(to + i * kPackedStride + k, v);
    return v;
  }
};

// sum[r][o] += x_r w_o for one step from k on, or its first n elements.
template <class Form, bool kWhole, int kR, int kO, class X, class W>
MAAM_INLINE void Step(const X& x, const W& w, int64_t k, int64_t n, V (&sum)[kR * kO]) {
  typename Form::Vector row[kR];
#pragma GCC unroll 4
  for (int r = 0; r < kR; ++r) row[r] = x.template Get<kWhole>(r, k, n);
#pragma GCC unroll 8
  for (int o = 0; o < kO; ++o) {
    const typename Form::Vector weight = w.template Get<kWhole>(o, k, n);
#pragma GCC unroll 4
    for (int r = 0; r < kR; ++r) sum[r * kO + o] = Form::MultiplyAdd(row[r], weight, sum[r * kO + o]);
  }
}

// partial[r * stride + o] = or += <x_r, w_o> over `depth` inputs.
template <class Form, bool kAdd, int kR, int kO, class X, class W>
MAAM_INLINE void Dots(const X& x, const W& w, int64_t depth, Ahead* ahead, float* partial, int64_t stride) {
  constexpr int kDots = kR * kO;
  V sum[kDots];
#pragma GCC unroll 16
  for (int i = 0; i < kDots; ++i) sum[i] = Set(0.0f);
  int64_t k = 0;
  for (; k + kStepsOfFetch * Form::kStep <= depth; k += kStepsOfFetch * Form::kStep) {
    if (ahead != nullptr) {
      ahead->Fetch();
    }
    // Unrolled, GCC mixes the steps until the sums no longer fit the registers.
#pragma GCC unroll 1
    for (int i = 0; i < kStepsOfFetch; ++i) Step<Form, true, kR, kO>(x, w, k + i * Form::kStep, Form::kStep, sum);
  }
#pragma GCC unroll 1
  for (; k + Form::kStep <= depth; k += Form::kStep) Step<Form, true, kR, kO>(x, w, k, Form::kStep, sum);
  if (k < depth) Step<Form, false, kR, kO>(x, w, k, depth - k, sum);
  float dot[RoundUp(kDots, V::kLanes)];
#pragma GCC unroll 4
  for (int first = 0; first < kDots; first += V::kLanes) {
    V part[V::kLanes];
#pragma GCC unroll 16
    for (int i = 0; i < V::kLanes; ++i) part[i] = first + i < kDots ? sum[first + i] : Set(0.0f);
    Store(dot + first, SumEach(part));
  }
  for (int r = 0; r < kR; ++r, partial += stride) {
    for (int o = 0; o < kO; ++o) partial[o] = kAdd ? partial[o] + dot[r * kO + o] : dot[r * kO + o];
  }
}

// Up to kRows rows of x times kOutputs rows of W.
template <class Form, bool kAdd, class X, class W>
MAAM_INLINE void MultiplyRows(int64_t rows, const X& x, const W& w, int64_t depth, Ahead* ahead, float* partial,
                              int64_t stride) {
  switch (rows) {
    case 1:
      return Dots<Form, kAdd, 1, kOutputs>(x, w, depth, ahead, partial, stride);
    case 2:
      return Dots<Form, kAdd, 2, kOutputs>(x, w, depth, ahead, partial, stride);
    case 3:
      return Dots<Form, kAdd, 3, kOutputs>(x, w, depth, ahead, partial, stride);
    default:
      return Dots<Form, kAdd, kRows, kOutputs>(x, w, depth, ahead, partial, stride);
  }
}

// A chunk of x, copied, times kOutputs rows of W, which are copied to `packed`.
template <class Form, bool kAdd, class W>
static void MultiplyChunk(const typename Form::Element* x, int64_t count, const InPlace<Form, W, kOutputs>& weight,
                          typename Form::Element* packed, int64_t depth, Ahead ahead, float* partial, int64_t stride) {
  using Rows = Packed<Form, kPackedStride>;
  const Copied<Form, W, kOutputs> copied{weight, packed};
  MultiplyRows<Form, kAdd>(count, Rows{x}, copied, depth, &ahead, partial, stride);
  for (int64_t row = kRows; row < count; row += kRows) {
    MultiplyRows<Form, kAdd>(count - row, Rows{x + row * kPackedStride}, Rows{packed}, depth, &ahead,
                             partial + row * stride, stride);
  }
}

// Rows of W from o on and inputs from k on; the last one in place of those behind the end, whose results nobody reads.
template <class Form, class W, int kCount>
MAAM_INLINE InPlace<Form, W, kCount> RowsOfWeight(const DenseForward& p, int64_t o, int64_t end, int64_t k) {
  InPlace<Form, W, kCount> rows;
  for (int i = 0; i < kCount; ++i) {
    rows.row[i] = static_cast<const W*>(p.weight) + (o + i < end ? o + i : end - 1) * p.inputs + k;
  }
  return rows;
}

// With many rows of x. Both operands are copied before they are used many times: rows a power of two apart fall into
// the same few sets of the caches, and on AMD their lines are even mistaken for one another (three times slower).
template <class X, class W>
static void ManyRows(const DenseForward& p, const DenseSegment& s, float* partial, void* memory) {
  using Form = typename FormOf<X, W>::Type;
  using Element = typename Form::Element;
  Element* const rows = static_cast<Element*>(memory);
  Element* const packed = rows + kChunk * kPackedStride;
  const int64_t stride = PartialStride(p);
  for (int64_t k = s.k; k < s.k + s.depth; k += kDepth) {
    const int64_t depth = s.k + s.depth - k < kDepth ? s.k + s.depth - k : kDepth;
    for (int64_t first = 0; first < p.batch; first += kChunk) {
      const int64_t count = p.batch - first < kChunk ? p.batch - first : kChunk;
      PackRows<Form>(static_cast<const X*>(p.x) + first * p.inputs + k, p.inputs, count, depth, rows, kPackedStride);
      const int64_t calls = (count + kRows - 1) / kRows * (depth / (kStepsOfFetch * Form::kStep)) + 1;
      for (int64_t o = s.begin; o < s.end; o += kOutputs) {
        const int64_t next = o + 2 * kOutputs <= s.end ? kOutputs : 0;
        const Ahead ahead(static_cast<const W*>(p.weight) + (o + kOutputs) * p.inputs + k, p.inputs, next, depth,
                          calls);
        (k > s.k ? MultiplyChunk<Form, true, W>
                 : MultiplyChunk<Form, false, W>)(rows, count, RowsOfWeight<Form, W, kOutputs>(p, o, s.end, k), packed,
                                                  depth, ahead, partial + first * stride + o, stride);
      }
    }
  }
}

// Rows of W at the speed of memory: kO of them at a time, read once, in one go and in place.
template <int kR, int kO, class X, class W>
static void FewRows(const DenseForward& p, const DenseSegment& s, float* partial, void* memory) {
  using Form = typename FormOf<X, W>::Type;
  using Element = typename Form::Element;
  Element* const rows = static_cast<Element*>(memory);
  PackRows<Form>(static_cast<const X*>(p.x) + s.k, p.inputs, kR, s.depth, rows, kSegment);
  const int64_t stride = PartialStride(p);
  for (int64_t o = s.begin; o < s.end; o += kO) {
    for (int64_t k = 0; k < s.depth; k += kDepth) {
      const int64_t depth = s.depth - k < kDepth ? s.depth - k : kDepth;
      const Packed<Form, kSegment> x{rows + k};
      const auto w = RowsOfWeight<Form, W, kO>(p, o, s.end, s.k + k);
      if (k > 0) {
        Dots<Form, true, kR, kO>(x, w, depth, nullptr, partial + o, stride);
      } else {
        Dots<Form, false, kR, kO>(x, w, depth, nullptr, partial + o, stride);
      }
    }
  }
}

template <class X, class W>
static void Segment(const DenseForward& p, const DenseSegment& s, float* partial, void* memory) {
  switch (p.batch) {
    case 1:
      return FewRows<1, 8, X, W>(p, s, partial, memory);
    case 2:
      return FewRows<2, 4, X, W>(p, s, partial, memory);
    case 3:
      return FewRows<3, 4, X, W>(p, s, partial, memory);
    default:
      return ManyRows<X, W>(p, s, partial, memory);
  }
}

#if !defined(__AVX512BF16__)
template <class X, class B>
static void Finish(const DenseForward& p, const float* partial, int64_t begin, int64_t end) {
  const B* bias = static_cast<const B*>(p.bias);
  constexpr int64_t kAtOnce = 64;
  for (int64_t row = begin; row < end; ++row) {
    X* y = static_cast<X*>(p.y) + row * p.outputs;
    for (int64_t first = 0; first < p.outputs; first += kAtOnce) {
      const int64_t count = p.outputs - first < kAtOnce ? p.outputs - first : kAtOnce;
      float sum[kAtOnce];
      for (int64_t o = 0; o < count; ++o) sum[o] = bias != nullptr ? ToFloat(bias[first + o]) : 0;
      for (int64_t k = 0; k < p.inputs; k += kSegment) {
        const float* from = partial + (k / kSegment * p.batch + row) * PartialStride(p) + first;
        for (int64_t o = 0; o < count; ++o) sum[o] += from[o];
      }
      // NaN becomes 0, as in MindSpore's ReLU.
      for (int64_t o = 0; o < count; ++o) Assign(y[first + o], !p.relu || sum[o] > 0 ? sum[o] : 0);
    }
  }
}
#endif

}  // namespace dense
}  // namespace MAAM_ISA

#if defined(__AVX512BF16__)

void MAAM_VARIANT(dense_segment)(const DenseForward& p, const DenseSegment& s, float* partial, void* memory) {
  MAAM_ISA::dense::Segment<BFloat16, BFloat16>(p, s, partial, memory);
}

#else

void MAAM_VARIANT(dense_segment)(const DenseForward& p, const DenseSegment& s, float* partial, void* memory) {
  WithSingleType(p.dtype, [&]<class X>(X*) {
    WithSingleType(p.weight_dtype, [&]<class W>(W*) { MAAM_ISA::dense::Segment<X, W>(p, s, partial, memory); });
  });
}

void MAAM_VARIANT(dense_finish)(const DenseForward& p, const float* partial, int64_t begin, int64_t end) {
  WithSingleType(p.dtype, [&]<class X>(X*) {
    WithSingleType(p.bias_dtype, [&]<class B>(B*) { MAAM_ISA::dense::Finish<X, B>(p, partial, begin, end); });
  });
}

#endif

}  // namespace maam
