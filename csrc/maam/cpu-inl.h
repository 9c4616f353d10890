// The variants' entry points, compiled for each instruction set (cpu.cc, cpu_avx2.cc, cpu_avx512.cc).
#include "maam/inference-inl.h"
#include "maam/input-inl.h"
#include "maam/mix-inl.h"
#include "maam/moments-inl.h"
#include "maam/sums-inl.h"

namespace maam {

void MAAM_VARIANT(maam_inference)(const MaamPlan& plan, int64_t image, int64_t row, int64_t rows, char* scratch) {
  using namespace MAAM_ISA;
  float* planes = reinterpret_cast<float*>(scratch);
  float* panel = reinterpret_cast<float*>(scratch + plan.PanelOffset());
  maam_module::StageStrip(plan, nullptr, image, row, rows, planes);
  maam_module::FillPanel(plan, image, rows, planes, reinterpret_cast<float*>(scratch + plan.PointsOffset()), panel);
  WithSingleType(plan.p.dtype, [&]<class T>(T*) { maam_module::Project<T>(plan, image, row, rows, panel); });
}

void MAAM_VARIANT(maam_mix)(const MaamPlan& plan, const MixedBranches& to, int64_t image, int64_t row, int64_t rows,
                            char* scratch) {
  using namespace MAAM_ISA::maam_module;
  float* planes = reinterpret_cast<float*>(scratch);
  StageStrip(plan, nullptr, image, row, rows, planes);
  MixStrip(plan, to, image, row, rows, planes);
}

void MAAM_VARIANT(maam_moments)(const MomentsPlan& plan, int64_t begin, int64_t end, char* scratch, double* sums) {
  MAAM_ISA::maam_module::Moments(plan, begin, end, reinterpret_cast<double*>(scratch), sums);
}

void MAAM_VARIANT(maam_sums)(const SumsPlan& plan, const GradientOperands& from, int64_t begin, int64_t end,
                             char* scratch, double* sums) {
  MAAM_ISA::maam_module::Sums(plan, from, begin, end, scratch, sums);
}

void MAAM_VARIANT(maam_input)(const MaamPlan& plan, const InputOperands& from, int64_t image, char* scratch) {
  MAAM_ISA::maam_module::InputGradient(plan, from, image, scratch);
}

}  // namespace maam
