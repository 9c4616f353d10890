// Moments of the patches of the images, and of the convolutions that read them, in double. See training.h.
#pragma once

#include <vector>

#include "core/scratch.h"
#include "maam/training.h"

namespace maam {

// How the rows of an image are staged for the sums of products: in strips that stay in the L1 cache, as doubles, with
// zeros around them. Behind the channels stands a plane of ones: a last "tap" that gives the sums of the others.
struct MomentsPlan {
  DType dtype;
  const void* x;
  int64_t inputs, height, width;
  int64_t kernel;  // the largest of any branch
  int64_t rows;    // of a strip
  int64_t stride, plane;
  int64_t taps;    // with the ones
  int64_t padded;  // to whole blocks of any variant

  explicit MomentsPlan(const MaamInference& p);
  int64_t Offset(int64_t tap) const;  // of a tap's first pixel in the staged strip
  int64_t StagedBytes() const { return RoundUp((inputs + 1) * plane * int64_t{sizeof(double)}, kCacheLine); }
  int64_t Products() const { return padded * padded; }
};

// Adds up the products of all pairs of taps t >= u over images [begin, end) into products[t * padded + u].
using MaamMomentsKernel = void(const MomentsPlan& plan, int64_t begin, int64_t end, char* scratch, double* products);

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
