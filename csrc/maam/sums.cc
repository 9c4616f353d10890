#include "maam/sums.h"

#include <algorithm>

#include "core/ceil_div.h"

namespace maam {
namespace {

constexpr int64_t kTilePixels = 256;  // pooled ones: the tile stays in the L1 cache, and lists are long

}  // namespace

SumsPlan::SumsPlan(const MaamInference& problem, int64_t lanes_of_variant)
    : p(problem), lanes(lanes_of_variant), edge(0), within{} {
  for (int k = 0; k < p.branches; ++k) edge = std::max(edge, p.branch[k].kernel / 2);
  const int64_t height = p.height / 2, width = p.width / 2;
  columns = std::min(width, kTilePixels);
  rows = std::clamp<int64_t>(kTilePixels / columns, 1, height);
  down = CeilDiv(height, rows);
  across = CeilDiv(width, columns);
  stride = (2 * columns + 2 * edge) * p.inputs;
  listed = RoundUp(rows * columns, lanes) + lanes;
  for (int64_t y = 0; y < rows; ++y) {
    for (int64_t x = 0; x < columns; ++x) place_.push_back(static_cast<int32_t>(2 * (y * stride + x * p.inputs)));
  }
  place_.resize(listed);
  place = place_.data();
  for (int64_t i = 0; i < kPool; ++i) within[i] = static_cast<int32_t>(i / 2 * stride + i % 2 * p.inputs);
  for (int k = 0; k < p.branches; ++k) {
    const int64_t kernel = p.branch[k].kernel;
    const int64_t row = kernel * p.inputs;
    for (int64_t y = 0; y < kernel; ++y) {
      for (int64_t first = 0; first < row; first += lanes) {
        step_[k].push_back(y * stride + first);
        for (int64_t i = first; i < first + lanes; ++i) {
          const int64_t input = i % p.inputs, x = i / p.inputs;
          tap_[k].push_back(i < row ? (input * kernel + y) * kernel + x : kNoTap);
        }
      }
    }
    patch[k] = {static_cast<int64_t>(step_[k].size()), step_[k].data(), tap_[k].data()};
  }
}

int64_t SumsPlan::LaneVectors() const {
  int64_t vectors = 0;
  for (int k = 0; k < p.branches; ++k) vectors += p.channels * (patch[k].vectors + 1);
  return vectors;
}

}  // namespace maam
