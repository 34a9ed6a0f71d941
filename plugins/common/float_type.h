// The number types that the kernels take; their sums are float32 whatever the type.
#pragma once

#include <cstddef>
#include <cstdint>

namespace rwkv_edge {

enum class FloatType : int32_t { kFloat = 0, kHalf = 1, kBFloat16 = 2 };

inline size_t size_of(FloatType type) { return type == FloatType::kFloat ? 4 : 2; }

}  // namespace rwkv_edge
