// What the Ascend C kernels share. The operator package is flat, so this is included by its name alone.
#pragma once

#include "kernel_operator.h"

namespace maam_ascend {

using AscendC::GlobalTensor;
using AscendC::HardEvent;
using AscendC::LocalTensor;
using AscendC::TPipe;

template <class T>
struct IsFloat {
  static constexpr bool value = false;
};
template <>
struct IsFloat<float> {
  static constexpr bool value = true;
};

// Pipe B of event A_B waits for what pipe A has been given so far.
template <HardEvent event>
__aicore__ inline void Order(TPipe* pipe) {
  const event_t id = static_cast<event_t>(pipe->FetchEventID(event));
  AscendC::SetFlag<event>(id);
  AscendC::WaitFlag<event>(id);
}

template <class T>
__aicore__ inline void CopyIn(const LocalTensor<T>& dst, const GlobalTensor<T>& src, uint32_t count) {
  const AscendC::DataCopyExtParams params{1, static_cast<uint32_t>(count * sizeof(T)), 0, 0, 0};
  const AscendC::DataCopyPadExtParams<T> no_padding{};
  AscendC::DataCopyPad(dst, src, params, no_padding);
}

template <class T>
__aicore__ inline void CopyOut(const GlobalTensor<T>& dst, const LocalTensor<T>& src, uint32_t count) {
  const AscendC::DataCopyExtParams params{1, static_cast<uint32_t>(count * sizeof(T)), 0, 0, 0};
  AscendC::DataCopyPad(dst, src, params);
}

}  // namespace maam_ascend
