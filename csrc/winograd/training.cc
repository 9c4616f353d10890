#include "winograd/training.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "core/parallel.h"

namespace maam {

void BatchNormVectors::Place(float* at, int64_t padded) {
  for (float** vector : {&scale, &shift, &mean, &rstd, &offset, &slope, &sign}) {
    *vector = at;
    at += padded;
  }
}

void WinogradTraining::Cut(int64_t batch, int64_t height, int64_t width, int64_t most) {
  strips.batch = batch;
  strips.height = height;
  strips.width = width;
  strips.tile_rows = CeilDiv(height, 4);
  strips.tile_columns = CeilDiv(width, 4);
  strips.Cut(most, 1);
  bundle = std::clamp<int64_t>(most / (strips.rows * strips.columns), 1, std::max<int64_t>(1, strips.Count()));
  strips.tiles = RoundUp(bundle * strips.rows * strips.columns, kBlockTiles);
  groups = Groups();
  result_height = pools ? height / 2 : height;
  result_width = pools ? width / 2 : width;
}

int64_t WinogradTraining::Groups() const {
  return std::clamp<int64_t>(Bundles(), 1, WeightSums() > kManyWeightSums ? kFewGroups : kMaxGroups);
}

void FillNorm(const BlockNorm& norm, const double* statistics, int64_t count, int64_t padded, BatchNormVectors* to) {
  for (int64_t c = 0; c < padded; ++c) {
    const bool exists = c < count;
    const double mean = exists ? statistics[c] : 0;
    const double rstd = exists ? statistics[count + c] : 0;
    const double scale = exists ? norm.gamma[c] * rstd : 0;
    to->scale[c] = static_cast<float>(scale);
    to->shift[c] = static_cast<float>(exists ? norm.beta[c] - mean * scale : 0);
    to->mean[c] = static_cast<float>(mean);
    to->rstd[c] = static_cast<float>(rstd);
  }
}

void FillGradientNorm(bool exists, double dgamma, double dbeta, int64_t c, BatchNormVectors* norm) {
  const double scale = exists ? norm->scale[c] : 0;
  norm->offset[c] = static_cast<float>(-scale * dbeta);
  norm->slope[c] = static_cast<float>(-scale * norm->rstd[c] * dgamma);
}

// Squared deviations as a strip has left them: their correction may leave less than 0, or, where the squares of finite
// values are beyond float32, infinity less infinity.
static double SquaresOf(float mean, float squares) {
  if (std::isnan(squares) && std::isfinite(mean)) return std::numeric_limits<double>::infinity();
  return squares < 0 ? 0 : squares;
}

void JoinStatistics(const WinogradTraining& plan, const BlockNorm& norm, int64_t count, int64_t padded,
                    double* statistics, float* new_mean, float* new_variance) {
  const Strips& t = plan.strips;
  const double all = static_cast<double>(plan.Pixels());
  for (int64_t c = 0; c < count; ++c) {
    double pixels = 0, mean = 0, deviations = 0;
    for (int64_t i = 0; i < t.Count(); ++i) {
      const Strip s = StripAt(t, i);
      const double more = static_cast<double>(std::min(t.height - 4 * s.top, 4 * s.rows) *
                                              std::min(t.width - 4 * s.left, 4 * s.columns));
      const float* sums = plan.strip_sums + i * 2 * padded + c;
      const double delta = sums[0] - mean;
      mean += delta * more / (pixels + more);
      deviations += SquaresOf(sums[0], sums[padded]) + delta * delta * pixels * more / (pixels + more);
      pixels += more;
    }
    statistics[c] = mean;
    statistics[count + c] = 1 / std::sqrt(deviations / all + norm.eps);
    new_mean[c] = static_cast<float>(norm.momentum * norm.moving_mean[c] + (1 - norm.momentum) * mean);
    new_variance[c] =
        static_cast<float>(norm.momentum * norm.moving_variance[c] + (1 - norm.momentum) * deviations / (all - 1));
  }
}

void JoinGradient(WinogradTraining* plan, float* dgamma, float* dbeta) {
  const double pixels = static_cast<double>(plan->Pixels());
  for (int64_t c = 0; c < plan->channels; ++c) {
    double beta = 0, gamma = 0;
    for (int64_t i = 0; i < plan->strips.batch; ++i) {
      beta += plan->strip_sums[i * 2 * plan->channels + c];
      gamma += plan->strip_sums[(i * 2 + 1) * plan->channels + c];
    }
    FillGradientNorm(c < plan->outputs, gamma / pixels, beta / pixels, c, &plan->norm);
    if (c >= plan->outputs) continue;
    dgamma[c] = static_cast<float>(gamma);
    dbeta[c] = static_cast<float>(beta);
  }
}

void FillSigns(const BlockNorm& norm, WinogradTraining* plan) {
  for (int64_t c = 0; c < plan->channels; ++c) {
    const float gamma = c < plan->outputs ? norm.gamma[c] : 0;
    plan->norm.sign[c] = gamma < 0 ? -1.0f : gamma == 0 ? 0.0f : 1.0f;
  }
}

void RotateWeights(const WinogradTraining& plan, const float* weight) {
  ParallelFor(plan.depth, [&](int64_t i) {
    for (int64_t c = 0; c < plan.outputs; ++c) {
      const float* from = weight + (c * plan.depth + i) * 9;
      for (int tap = 0; tap < 9; ++tap) plan.rotated[(i * plan.outputs + c) * 9 + tap] = from[8 - tap];
    }
  });
}

}  // namespace maam
