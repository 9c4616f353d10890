// The portable kernel, the choice of the variant, the split over threads, and float64.
#define MAAM_ISA portable
#include "cross_entropy/cpu-inl.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <vector>

#include "core/ceil_div.h"
#include "core/dispatch.h"
#include "core/parallel.h"
#include "core/scratch.h"

namespace maam {

#define MAAM_KERNEL MAAM_REGISTER_KERNEL
#include "cross_entropy/kernels.inc"
#undef MAAM_KERNEL

namespace {

// Logits of a task: fewer are not worth a second thread.
constexpr int64_t kTask = 32768;

// float64 is for tests and for truth: plain loops.
void DoubleRows(const CrossEntropy& p, int64_t begin, int64_t end, double scale, double* losses) {
  for (int64_t r = begin; r < end; ++r) {
    const double* x = static_cast<const double*>(p.logits) + r * p.classes;
    double* gradient = static_cast<double*>(p.gradient) + r * p.classes;
    losses[r] = 0;
    std::fill(gradient, gradient + p.classes, 0.0);
    if (p.labels[r] == p.ignore) continue;
    const double largest = *std::max_element(x, x + p.classes);
    double sum = 0, total = 0;
    for (int64_t i = 0; i < p.classes; ++i) {
      sum += gradient[i] = std::exp(x[i] - largest);
      total += x[i];
    }
    const double above = std::log(sum);
    const double classes = static_cast<double>(p.classes);
    losses[r] = (1 - p.smoothing) * (above + (largest - x[p.labels[r]]));
    if (p.smoothing > 0) losses[r] += p.smoothing * (above + (largest - total / classes));
    for (int64_t i = 0; i < p.classes; ++i) gradient[i] = (gradient[i] / sum - p.smoothing / classes) * scale;
    gradient[p.labels[r]] -= (1 - p.smoothing) * scale;
  }
}

int64_t RowsOfTask(const CrossEntropy& p) { return std::max<int64_t>(1, kTask / p.classes); }
int64_t Tasks(const CrossEntropy& p) { return CeilDiv(p.rows, RowsOfTask(p)); }
int64_t RowBytes(const CrossEntropy& p) {
  return RoundUp(RoundUp(p.classes, kRowPadding) * int64_t{sizeof(float)}, kCacheLine);
}

}  // namespace

Isa CrossEntropyIsa() { return ChooseVariant("cross_entropy").isa; }

int64_t CrossEntropyScratch(const CrossEntropy& p) { return WorkersFor(Tasks(p)) * RowBytes(p); }

int64_t FirstBadLabel(const CrossEntropy& p) {
  for (int64_t r = 0; r < p.rows; ++r) {
    if ((p.labels[r] < 0 || p.labels[r] >= p.classes) && p.labels[r] != p.ignore) return r;
  }
  return -1;
}

void RunCrossEntropy(const CrossEntropy& p) {
  const auto kernel = Choose<CrossEntropyKernel>(ChooseVariant("cross_entropy"));
  const int64_t count = p.rows - std::count(p.labels, p.labels + p.rows, p.ignore);
  const double scale = count > 0 ? 1 / static_cast<double>(count) : 0;
  std::vector<double> losses(p.rows);
  const Scratch scratch(CrossEntropyScratch(p));
  const int64_t rows = RowsOfTask(p);
  ParallelForWorkers(WorkersFor(Tasks(p)), Tasks(p), [&](int64_t worker, int64_t task) {
    const int64_t begin = task * rows;
    const int64_t end = std::min(p.rows, begin + rows);
    if (p.dtype == DType::kFloat64) {
      DoubleRows(p, begin, end, scale, losses.data());
    } else {
      kernel(p, begin, end, scale, reinterpret_cast<float*>(scratch.At(worker * RowBytes(p))), losses.data());
    }
  });
  double loss = 0;
  for (const double row : losses) loss += row;
  loss = count > 0 ? loss / static_cast<double>(count) : std::numeric_limits<double>::quiet_NaN();
  if (p.dtype == DType::kFloat64) {
    *static_cast<double*>(p.loss) = loss;
  } else {
    *static_cast<float*>(p.loss) = static_cast<float>(loss);
  }
}

}  // namespace maam
