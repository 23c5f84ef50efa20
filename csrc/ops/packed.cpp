#include "packed.h"

#include <algorithm>
#include <cstring>

#include "kernels/isa.h"

namespace seq2seq_ext {

std::optional<int64_t> weights_state(at::TensorList weights) {
  constexpr int64_t kSamples = 16;
  constexpr uint64_t kPrime = 1099511628211u;
  uint64_t hash = 14695981039346656037u ^ static_cast<uint64_t>(active_isa());
  const auto add = [&](uint64_t value) {
    hash = (hash ^ value) * kPrime;
    hash ^= hash >> 29;
  };
  for (const at::Tensor& t : weights) {
    // A fake tensor says that it is on the CPU, but has no data.
    if (!t.device().is_cpu() || t.key_set().has(c10::DispatchKey::Python) || !t.is_contiguous() ||
        t.is_inference())
      return std::nullopt;
    const int64_t size = t.itemsize(), count = t.numel();
    const auto* bytes = static_cast<const uint8_t*>(t.const_data_ptr());
    add(reinterpret_cast<uintptr_t>(bytes));
    add(reinterpret_cast<uintptr_t>(t.unsafeGetTensorImpl()));
    add(t._version());
    for (int64_t i = 0; i < std::min(count, kSamples); ++i) {
      const int64_t at = count <= kSamples ? i : (count - 1) * i / (kSamples - 1);
      uint64_t value = 0;
      std::memcpy(&value, bytes + at * size, std::min<int64_t>(size, sizeof(value)));
      add(value);
    }
  }
  return static_cast<int64_t>(hash);
}

}  // namespace seq2seq_ext
