// The TensorRT plugin: BiWKV, version 1, namespace rwkv_edge, for TensorRT 10.3 and later.
//
// Inputs w, u (C) in float32; k, v (B, T, C) in float32, float16 or bfloat16; output y like k. All
// dimensions may be dynamic. The plugin has no parameters: everything it needs is in the shapes.
#pragma once

#include <NvInferRuntime.h>

namespace rwkv_edge {

class BiWkvPlugin final : public nvinfer1::IPluginV3,
                          public nvinfer1::IPluginV3OneCore,
                          public nvinfer1::IPluginV3OneBuild,
                          public nvinfer1::IPluginV3OneRuntime {
 public:
  // IPluginV3
  nvinfer1::IPluginCapability* getCapabilityInterface(
      nvinfer1::PluginCapabilityType type) noexcept override;
  nvinfer1::IPluginV3* clone() noexcept override;

  // IPluginV3OneCore
  nvinfer1::AsciiChar const* getPluginName() const noexcept override;
  nvinfer1::AsciiChar const* getPluginVersion() const noexcept override;
  nvinfer1::AsciiChar const* getPluginNamespace() const noexcept override;

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
  char const* getTimingCacheID() noexcept override;

  // IPluginV3OneRuntime
  int32_t onShapeChange(nvinfer1::PluginTensorDesc const* in, int32_t inputs,
                        nvinfer1::PluginTensorDesc const* out, int32_t outputs) noexcept override;
  int32_t enqueue(nvinfer1::PluginTensorDesc const* in, nvinfer1::PluginTensorDesc const* out,
                  void const* const* inputs, void* const* outputs, void* workspace,
                  cudaStream_t stream) noexcept override;
  nvinfer1::IPluginV3* attachToContext(nvinfer1::IPluginResourceContext* context) noexcept override;
  nvinfer1::PluginFieldCollection const* getFieldsToSerialize() noexcept override;

 private:
  nvinfer1::PluginFieldCollection no_fields_{};
};

class BiWkvPluginCreator final : public nvinfer1::IPluginCreatorV3One {
 public:
  nvinfer1::IPluginV3* createPlugin(nvinfer1::AsciiChar const* name,
                                    nvinfer1::PluginFieldCollection const* fields,
                                    nvinfer1::TensorRTPhase phase) noexcept override;
  nvinfer1::PluginFieldCollection const* getFieldNames() noexcept override;
  nvinfer1::AsciiChar const* getPluginName() const noexcept override;
  nvinfer1::AsciiChar const* getPluginVersion() const noexcept override;
  nvinfer1::AsciiChar const* getPluginNamespace() const noexcept override;

 private:
  nvinfer1::PluginFieldCollection no_fields_{};
};

}  // namespace rwkv_edge

// What TensorRT looks for in a plugin library (IPluginRegistry::loadLibrary, trtexec
// --staticPlugins).
#if defined(_WIN32)
#define RWKV_EDGE_EXPORT __declspec(dllexport)
#else
#define RWKV_EDGE_EXPORT __attribute__((visibility("default")))
#endif

extern "C" RWKV_EDGE_EXPORT void setLoggerFinder(nvinfer1::ILoggerFinder* finder);
extern "C" RWKV_EDGE_EXPORT nvinfer1::IPluginCreatorInterface* const* getCreators(int32_t& count);
