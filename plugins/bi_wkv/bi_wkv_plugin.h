// The TensorRT plugin BiWKV.
//
// Inputs w, u (C) in float32; k, v (B, T, C) in float32, float16 or bfloat16; output y like k. All
// dimensions may be dynamic.
#pragma once

#include "../common/plugin.h"

namespace rwkv_edge {

class BiWkvPlugin final : public Plugin {
 public:
  static constexpr char kName[] = "BiWKV";
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
