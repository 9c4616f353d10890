// The variants' entry points, compiled for each instruction set (cpu.cc, cpu_avx2.cc, cpu_avx512.cc).
#include "reduce/backward-inl.h"
#include "reduce/forward-inl.h"

namespace maam {

void MAAM_VARIANT(reduce_weights)(const ReduceOperands& p, void* rows, void* columns) {
  using namespace MAAM_ISA;
  WithType(p.weight_dtype, [&]<class From>(From*) {
    using To = typename Vec<From>::Element;
    reduce::ConvertWeights<From>(p, static_cast<To*>(rows), static_cast<To*>(columns));
  });
}

void MAAM_VARIANT(reduce_infer)(const ReduceTask& p, int64_t begin, int64_t end, char* scratch) {
  using namespace MAAM_ISA;
  WithType(p.dtype, [&]<class T>(T*) {
    if constexpr (CanStream<T>::value) {
      if (p.stream) return reduce::Infer<true, T>(p, begin, end, scratch);
    }
    reduce::Infer<false, T>(p, begin, end, scratch);
  });
}

void MAAM_VARIANT(reduce_project)(const ReduceTask& p, int64_t begin, int64_t end, char* scratch, Moments* moments) {
  using namespace MAAM_ISA;
  WithType(p.dtype, [&]<class T>(T*) { reduce::ProjectAndMeasure<T>(p, begin, end, scratch, moments); });
}

void MAAM_VARIANT(reduce_normalize)(const ReduceTask& p, int64_t begin, int64_t end) {
  using namespace MAAM_ISA;
  WithType(p.dtype, [&]<class T>(T*) { reduce::Normalize<T>(p, begin, end); });
}

void MAAM_VARIANT(reduce_sums)(const ReduceTask& p, int64_t image, int64_t end_image, int64_t channel,
                               int64_t end_channel, GradientSums* sums) {
  using namespace MAAM_ISA;
  WithType(p.dtype, [&]<class T>(T*) { reduce::SumRows<T>(p, image, end_image, channel, end_channel, sums); });
}

void MAAM_VARIANT(reduce_gradient)(const ReduceTask& p, int64_t begin, int64_t end, char* scratch, void* dweight,
                                   double* dots, GradientSums* sums) {
  using namespace MAAM_ISA;
  WithType(p.dtype, [&]<class T>(T*) {
    using E = typename Vec<T>::Element;
    reduce::Gradient<T>(p, begin, end, scratch, static_cast<E*>(dweight), dots, sums);
  });
}

}  // namespace maam
