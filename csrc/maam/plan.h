// How one call is cut up: folded weights, and strips of pooled rows with their geometry.
//
// An image is staged as four planes by the parity of row and column. A pooled pixel then reads each tap at the same
// offset for all four pixels it pools, and neighbouring pooled pixels are neighbours in memory: vectors run over
// pooled pixels, and the pooling is a max of four registers.
#pragma once

#include <cstdint>
#include <vector>

#include "core/scratch.h"
#include "maam/maam.h"

namespace maam {

constexpr int64_t kGroup = 4;      // channels whose weights stand together where products are of pairs of bfloat16
constexpr int64_t kPool = 4;       // pixels that one pooled pixel takes in
constexpr int64_t kMaxLanes = 16;  // of any variant

// Pooled pixels of a strip in the forward: whole blocks of the matrix product, and planes and panel that share the L1
// and L2 caches.
constexpr int64_t kStripPixels = 64;

// Part of a vector of plane cells: the lanes that are pooled pixels of one row, and where they go in the panel.
struct CellRun {
  int64_t lane;
  int64_t column;
  int64_t count;
};

struct CellVector {
  int64_t cell;  // of its first lane, counted from pooled pixel (0, 0) of the strip
  int64_t first_run;
  int64_t runs;
};

// Weights as pairs of bfloat16, one after the other in depth, the first in the lower half; and the scale that is not
// folded into them, which would round them.
struct PairedWeights {
  const uint32_t* weight = nullptr;
  const float* scale = nullptr;
  int64_t patch = 0;   // of a branch: where what its taps read stands in a worker's patches
  bool fills = false;  // and whether it is the first one with its kernel, which puts it there
};

// Channels whose four pooled pixels a variant has in registers at a time, and whose weights stand together. Of 16
// registers 12 hold sums: with 8 the loads, of which half meet two cache lines, took longer than the products.
constexpr int64_t ChannelsAtOnce(int64_t lanes) { return lanes == 16 ? 4 : 3; }

// Weights of one branch: for each group of channels those of the taps one after the other; a shift for each channel.
// For each tap, the offsets of the four pixels from the cell of the pooled one.
struct FoldedBranch {
  int64_t taps = 0;
  const float* weight = nullptr;
  const float* points = nullptr;  // see winograd-inl.h; null where the branch goes by its taps
  const float* shift = nullptr;
  const int64_t* offset = nullptr;
  PairedWeights pairs;  // in groups of kGroup
};

// Winograd's F(2x2, 3x3): a pooled pixel is a tile. Its values at 16 points are products of transformed pixels and
// weights, in groups of channels too.
constexpr int64_t kPoints = 16;
// Beyond, what is added up on the way might overflow where the convolution does not.
constexpr float kModerate = 0x1p60f;

inline int64_t PairsOf(int64_t depth) { return (depth + 1) / 2; }
// Whether products are of pairs of bfloat16 where the CPU has such.
bool InPairs(const MaamInference& p);

// What stands in the plan's tables besides the geometry.
enum class Folded {
  kPairs,     // inference by pairs of bfloat16: the weights as they are
  kModule,    // inference: everything, softmax(alpha) in the branches' weights
  kBranches,  // training: the branches alone, without softmax(alpha)
  kNothing,   // backward
};

struct MaamPlan {
  const MaamInference& p;
  int64_t pooled_height, pooled_width;
  int64_t rows;     // pooled rows of a strip; the last one of an image may have fewer
  int64_t strips;   // of one image
  int64_t border;   // cells around a plane that taps reach
  int64_t stride;   // cells from one row of a plane to the next
  int64_t plane;    // cells of a plane
  int64_t columns;  // of the panel: pooled pixels of a strip, padded to vectors
  int64_t groups;   // of channels
  FoldedBranch branch[kMaxBranches];
  const float* weight = nullptr;  // of the 1x1 convolution, (outputs, channels)
  const float* shift = nullptr;
  PairedWeights pairs;    // of the 1x1 convolution, (outputs, pairs of channels)
  bool by_pairs = false;  // see pairs-inl.h
  const CellVector* vector = nullptr;
  const CellRun* run = nullptr;

  MaamPlan(const MaamInference& problem, int64_t lanes, int threads, int64_t strip_pixels = kStripPixels);

  // Cells from the start of a plane to its pooled pixel (0, 0).
  int64_t Origin() const { return RoundUp(border * stride + border, kMaxLanes); }
  int64_t VectorsOf(int64_t strip_rows) const;
  // Runs of all vectors of a strip, at most.
  int64_t MaxRuns() const { return VectorsOf(rows) + rows; }

  // Of the transformed weights of a group of channels, and of the pixels under a vector of pooled ones.
  int64_t ChannelsAtOnce() const { return maam::ChannelsAtOnce(lanes_); }
  int64_t ChannelGroups() const { return (p.channels + ChannelsAtOnce() - 1) / ChannelsAtOnce(); }
  int64_t PaddedChannels() const { return ChannelGroups() * ChannelsAtOnce(); }
  int64_t PointWeights() const { return kPoints * p.inputs * ChannelsAtOnce(); }
  int64_t PointPixels() const { return kPoints * p.inputs * lanes_; }

  // What taps read for a vector of pooled pixels, in pairs. Branches of one kernel share it: the first one fills it.
  int PatchOwner(int k) const;
  int64_t PatchesBefore(int k) const;

  // A worker's working memory: planes, then the panel, then transformed pixels, or patches.
  int64_t PlaneBytes() const { return RoundUp(p.inputs * kPool * plane * int64_t{sizeof(float)}, kCacheLine); }
  int64_t PanelOffset() const { return PlaneBytes(); }
  int64_t PointsOffset() const {
    return PanelOffset() + RoundUp(groups * kGroup * columns * int64_t{sizeof(float)}, kCacheLine);
  }
  int64_t WorkerBytes() const {
    const int64_t last = by_pairs ? PatchesBefore(p.branches) : VectorsOf(rows) * PointPixels();
    return PointsOffset() + RoundUp(last * int64_t{sizeof(float)}, kCacheLine);
  }

 private:
  int64_t lanes_;
  bool by_rows_;  // each row begins with a vector of its own; otherwise vectors run on over the cells between rows

  friend class PlanBuilder;
};

// Convolution weights as float32: those of a half type are replaced by copies, which live as long as this.
class SingleWeights {
 public:
  void Replace(MaamInference* p);

 private:
  std::vector<std::vector<float>> copies_;
};

// Fills the plan's tables, in working memory of its own.
class PlanBuilder {
 public:
  PlanBuilder(const MaamPlan& plan, Folded folded);
  int64_t Bytes() const { return layout_.Total(); }
  void Build(char* memory, MaamPlan* plan) const;

 private:
  void PackReduction(char* memory, MaamPlan* plan) const;
  void PackBranch(int k, double mix, char* memory, FoldedBranch* branch) const;
  void FoldReduction(float* weight, float* shift, MaamPlan* plan) const;
  void FoldBranch(int k, double mix, float* weight, float* shift) const;
  bool FoldPoints(int k, double mix, float* points) const;
  void FillOffsets(int k, int64_t* offset) const;
  void FillVectors(CellVector* vector, CellRun* run) const;

  const MaamPlan& plan_;
  const Folded folded_;
  ScratchLayout layout_;
  int64_t branch_weight_[kMaxBranches], branch_shift_[kMaxBranches], branch_offset_[kMaxBranches];
  int64_t branch_points_[kMaxBranches], branch_scale_[kMaxBranches];
  int64_t weight_, scale_, shift_, vector_, run_;
};

}  // namespace maam
