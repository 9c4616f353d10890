// The kernels, written once and compiled for each instruction set (cpu.cc, cpu_avx2.cc, cpu_avx512.cc,
// cpu_avx512vnni.cc).
#include "core/dot_int8-inl.h"
#include "dense_int8/kernels.h"

namespace maam {
namespace MAAM_ISA {
namespace dense_int8_module {

// Rows of x whose sums are in registers at a time.
constexpr int kRows = kRegisters == 32 ? 8 : 4;

// Rows of x from `row` on, copied, and where their weights and sums are.
struct Block {
  const uint8_t* x;
  const int8_t* weight;
  int64_t block_bytes;
  int64_t quads;
  int32_t* sums;
  int64_t stride;
};

template <int kRowsHere, int kBlocksHere>
static void AddRows(const Block& b, int64_t row) {
  constexpr int kVectors = kBlocksHere * kBlockVectors;
  I32 sum[kRowsHere][kVectors];
  ZeroSums(sum);
  AddDots<kRowsHere, kBlocksHere>(b.x + row * kInt8Stride, kInt8Stride, b.weight, b.block_bytes, b.quads, sum);
  int32_t* to = b.sums + row * b.stride;
  for (int r = 0; r < kRowsHere; ++r, to += b.stride) {
#pragma GCC unroll 8
    for (int v = 0; v < kVectors; ++v) Store(to + v * I32::kLanes, Add(Load(to + v * I32::kLanes), sum[r][v]));
  }
}

template <int kBlocksHere>
static void AddBlocks(const Block& b, int64_t rows) {
  int64_t row = 0;
  for (; row + kRows <= rows; row += kRows) AddRows<kRows, kBlocksHere>(b, row);
  for (; row < rows; ++row) AddRows<1, kBlocksHere>(b, row);
}

// Four bytes at a time in a vector of its own: values above 127 would let products saturate.
static void CopyRow(const uint8_t* from, int64_t bytes, uint8_t* to) {
  for (int64_t i = 0; i < bytes; ++i) to[i] = from[i] < kMaxActivation ? from[i] : kMaxActivation;
}

static void AddSegment(const DenseInt8& p, const DenseInt8Segment& s, uint8_t* packed, int32_t* sums) {
  const int64_t block_bytes = p.inputs * kOutputBlock;
  for (int64_t first = 0; first < p.batch; first += kInt8Rows) {
    const int64_t rows = p.batch - first < kInt8Rows ? p.batch - first : kInt8Rows;
    for (int64_t r = 0; r < rows; ++r) {
      CopyRow(p.x + (first + r) * p.inputs + s.begin, s.depth, packed + r * kInt8Stride);
    }
    Block b{packed, nullptr, block_bytes, s.depth / kQuad, nullptr, SumStride(p)};
    for (int64_t block = s.first; block < s.last;) {
      b.weight = p.weight + block * block_bytes + s.begin * kOutputBlock;
      b.sums = sums + first * b.stride + block * kOutputBlock;
      if (block + kBlocks <= s.last) {
        AddBlocks<kBlocks>(b, rows);
        block += kBlocks;
      } else {
        AddBlocks<1>(b, rows);
        ++block;
      }
    }
  }
}

static void Finish(const DenseInt8& p, const int32_t* sums, int64_t workers, int64_t begin, int64_t end) {
  constexpr int64_t kLanes = I32::kLanes;
  const int64_t bytes = RoundUp(p.outputs, kQuad);
  for (int64_t row = begin; row < end; ++row) {
    for (int64_t o = 0; o < p.outputs; o += kLanes) {
      const int64_t count = p.outputs - o < kLanes ? p.outputs - o : kLanes;
      const bool whole = count == kLanes;
      I32 sum = whole ? Load(p.bias + o) : LoadFirst(p.bias + o, count);
      for (int64_t w = 0; w < workers; ++w) {
        sum = Add(sum, Load(sums + (w * p.batch + row) * SumStride(p) + o));
      }
      const F32 scale = whole ? Load(p.scale + o) : LoadFirst(p.scale + o, count);
      if (p.floats != nullptr) {
        const F32 y = Mul(ToF32(sum), scale);
        float* to = p.floats + row * p.outputs + o;
        whole ? Store(to, y) : StoreFirst(to, y, count);
      } else {
        uint8_t* to = p.bytes + row * bytes + o;
        const F32 y = Requantise(sum, scale);
        whole ? StoreRounded(to, y) : StoreFirstRounded(to, y, RoundUp(count, kQuad));
      }
    }
  }
}

}  // namespace dense_int8_module
}  // namespace MAAM_ISA

void MAAM_VARIANT(dense_int8)(const DenseInt8& p, const DenseInt8Segment& s, uint8_t* packed, int32_t* sums) {
  MAAM_ISA::dense_int8_module::AddSegment(p, s, packed, sums);
}

void MAAM_VARIANT(dense_int8_finish)(const DenseInt8& p, const int32_t* sums, int64_t workers, int64_t begin,
                                     int64_t end) {
  MAAM_ISA::dense_int8_module::Finish(p, sums, workers, begin, end);
}

}  // namespace maam
