// How one call is cut up: strips of pooled rows of an image, each of which goes from the pixels to F in the cache.
#pragma once

#include "core/scratch.h"
#include "maam_int8/maam_int8.h"

namespace maam {

constexpr int64_t kWindow = 4;       // pixels that one pooled pixel takes in
constexpr int64_t kCopyBytes = 16;   // taps are copied so many bytes at a time, and so many may be written too much
constexpr int64_t kKernelSizes = 4;  // 1, 3, 5, 7
constexpr int64_t kInt8Strip = 64;   // pooled pixels

inline int64_t PatchBytes(int64_t inputs, int64_t kernel) { return RoundUp(inputs * kernel * kernel, kQuad); }
inline int64_t BlocksOf(int64_t outputs) { return (outputs + kOutputBlock - 1) / kOutputBlock; }

// A copy with zeros up to `padded` elements, in *memory, which moves on.
template <class T>
static inline const T* Padded(const T* from, int64_t count, int64_t padded, char** memory) {
  T* to = reinterpret_cast<T*>(*memory);
  for (int64_t i = 0; i < padded; ++i) to[i] = i < count ? from[i] : T{0};
  *memory += padded * int64_t{sizeof(T)};
  return to;
}

struct MaamInt8Plan {
  const MaamInt8& p;
  int64_t pooled_height, pooled_width;
  int64_t rows;    // pooled rows of a strip; the last one of an image may have fewer
  int64_t strips;  // of an image
  int64_t border;  // pixels around a strip that taps reach

  // Padded to whole blocks.
  const int32_t* bias[kMaxBranches];
  const float* scale;
  const int32_t* reduce_bias;
  const float* reduce_scale;

  // A worker's working memory, by offsets into it: the image in bytes, channels last; for each kernel size what its
  // taps read at each pixel; G.
  int64_t image, patches[kKernelSizes], panel, total;

  MaamInt8Plan(const MaamInt8& problem, int threads);

  int64_t ImageStride() const { return (2 * pooled_width + 2 * border) * p.inputs; }
  int64_t PanelStride() const { return BlocksOf(p.channels) * kOutputBlock; }
  int64_t Patches(int64_t kernel) const { return patches[kernel / 2]; }

  int64_t TableBytes() const;
  void FillTables(char* memory);
};

// F of pooled rows [row, row + rows) of one image.
using MaamInt8StripKernel = void(const MaamInt8Plan& plan, int64_t image, int64_t row, int64_t rows, char* scratch);

namespace maam_int8_kernels {
using maam_int8 = MaamInt8StripKernel;
}  // namespace maam_int8_kernels

#define MAAM_KERNEL(kernel, isa) maam_int8_kernels::kernel kernel##_##isa;
#include "maam_int8/kernels.inc"
#undef MAAM_KERNEL

}  // namespace maam
