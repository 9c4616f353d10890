// Moments of the patches of the images, and of the convolutions that read them, in double. See training.h.
#pragma once

#include <vector>

#include "core/scratch.h"
#include "maam/training.h"

namespace maam {

// The products of two taps depend on where they lie to each other: summed over an image, those of taps (c, ty, tx) and
// (c', uy, ux) are those of the pixels of c with the pixels of c' that lie (uy - ty, ux - tx) further, over the rows
// and columns that the first tap reaches. So there is one sum for each pair of channels and each shift, in cells that
// any tap's rows and columns are put together from: 945 sums in place of 11,026 for three channels of 7 x 7.
struct MomentsPlan {
  static constexpr int64_t kMaxBands = kMaxKernelSize;

  DType dtype;
  const void* x;
  int64_t inputs, height, width;
  int64_t kernel;          // the largest of any branch
  int64_t edge, reach;     // kernel / 2, kernel - 1: how far a tap and a shift go
  int64_t rows, strips;    // rows of a strip, strips of an image
  int64_t strips_at_once;  // that share the L2 cache
  int64_t stride, plane;   // of a staged strip, in doubles: zeros beside the rows, `reach` rows below
  int64_t slots;           // ones, then for each second channel the shifts along a row, from -reach on
  int64_t first_of_last;   // of the `edge` columns at the end of a row
  int64_t bands;           // of rows that the same taps reach
  int64_t band[kMaxBands + 1];

  explicit MomentsPlan(const MaamInference& p);

  int64_t Shifts() const { return 2 * reach + 1; }
  int64_t Slot(int64_t input, int64_t shift) const { return 1 + input * Shifts() + shift + reach; }
  // Cells of a band: the sums over whole rows, over the first columns one by one, and over the last ones.
  int64_t Cells() const { return 1 + 2 * edge; }
  int64_t Cell(int64_t input, int64_t down, int64_t slot, int64_t in_band) const {
    return (((input * (reach + 1) + down) * slots + slot) * bands + in_band) * Cells();
  }
  int64_t Sums() const { return Cell(inputs, 0, 0, 0); }

  // A plane of ones stands behind the channels: its products are the sums of the others.
  int64_t StripDoubles() const { return (inputs + 1) * plane; }
  // With a cache line behind, which the columns at the end of the last row are read with.
  int64_t StagedBytes() const {
    return RoundUp(strips_at_once * StripDoubles() * int64_t{sizeof(double)}, kCacheLine) + kCacheLine;
  }
};

// Sums of products over images [begin, end), for pixels of each channel with those of each slot, `down` rows below.
using MaamMomentsKernel = void(const MomentsPlan& plan, int64_t begin, int64_t end, char* scratch, double* sums);

// moments as described in training.h.
void MeasurePatches(const MaamInference& p, double* moments);
int64_t MeasurePatchesScratch(const MaamInference& p);

int64_t LargestKernel(const MaamInference& p);
// Of X.
std::vector<float> ChannelMeans(const MaamInference& p, const double* moments);

// What the moments of the patches say of a branch's convolution.
class BranchMoments {
 public:
  BranchMoments(const MaamInference& p, const double* moments, int branch);

  double Pixels() const { return moments_[stride_ * stride_ - 1]; }
  int64_t Taps() const { return static_cast<int64_t>(tap_.size()); }
  int64_t Tap(int64_t tap) const { return tap_[tap]; }  // among those of the largest kernel
  double Mean(int64_t tap) const { return moments_[(stride_ - 1) * stride_ + tap_[tap]]; }

  struct Channel {
    double mean = 0;
    double variance = 0;
    std::vector<double> covariance;  // Cov w, by tap
  };
  Channel Of(const float* weight) const;

 private:
  const double* moments_;
  int64_t stride_;
  std::vector<int64_t> tap_;
};

}  // namespace maam
