// The TensorRT plugins ShiftMix2 and ShiftMix3.
//
// Inputs x (B, C, H, W) and, of each mix, its weight (C, 1, 3, 3); outputs the mixes (B, H, W, C). All
// of one type: float32, float16 or bfloat16. All dimensions but the 1 and the 3s may be dynamic.
#pragma once

#include "../common/plugin.h"

namespace rwkv_edge {

// kMixes is 2 or 3.
template <int kMixes>
class ShiftMixPlugin final : public Plugin {
 public:
  static constexpr char const* kName = kMixes == 2 ? "ShiftMix2" : "ShiftMix3";
  static nvinfer1::IPluginV3* make() noexcept;

  nvinfer1::IPluginV3* clone() noexcept override;
  nvinfer1::AsciiChar const* getPluginName() const noexcept override;

  // IPluginV3OneBuild
  int32_t getNbOutputs() const noexcept override;
  int32_t getOutputDataTypes(nvinfer1::DataType* output_types, int32_t outputs,
                             nvinfer1::DataType const* input_types,
                             int32_t inputs) const noexcept override;
  int32_t getOutputShapes(nvinfer1::DimsExprs const* inputs, int32_t input_count,
                          nvinfer1::DimsExprs const* shape_inputs, int32_t shape_input_count,
                          nvinfer1::DimsExprs* outputs, int32_t output_count,
                          nvinfer1::IExprBuilder& builder) noexcept override;
  bool supportsFormatCombination(int32_t position, nvinfer1::DynamicPluginTensorDesc const* tensors,
                                 int32_t inputs, int32_t outputs) noexcept override;
  int32_t configurePlugin(nvinfer1::DynamicPluginTensorDesc const* in, int32_t inputs,
                          nvinfer1::DynamicPluginTensorDesc const* out,
                          int32_t outputs) noexcept override;
  size_t getWorkspaceSize(nvinfer1::DynamicPluginTensorDesc const* in, int32_t inputs,
                          nvinfer1::DynamicPluginTensorDesc const* out,
                          int32_t outputs) const noexcept override;

  // IPluginV3OneRuntime
  int32_t onShapeChange(nvinfer1::PluginTensorDesc const* in, int32_t inputs,
                        nvinfer1::PluginTensorDesc const* out, int32_t outputs) noexcept override;
  int32_t enqueue(nvinfer1::PluginTensorDesc const* in, nvinfer1::PluginTensorDesc const* out,
                  void const* const* inputs, void* const* outputs, void* workspace,
                  cudaStream_t stream) noexcept override;
};

}  // namespace rwkv_edge
