// What our TensorRT plugins have in common, for TensorRT 10.3 and later: version 1, namespace
// rwkv_edge, no parameters (everything they need is in the shapes), one tactic. Everything that
// TensorRT calls is noexcept and answers trouble with a return value and a line in TensorRT's log.
#pragma once

#include <NvInferRuntime.h>

#include "float_type.h"

namespace rwkv_edge {

class Plugin : public nvinfer1::IPluginV3,
               public nvinfer1::IPluginV3OneCore,
               public nvinfer1::IPluginV3OneBuild,
               public nvinfer1::IPluginV3OneRuntime {
 public:
  // IPluginV3
  nvinfer1::IPluginCapability* getCapabilityInterface(
      nvinfer1::PluginCapabilityType type) noexcept final;

  // IPluginV3OneCore
  nvinfer1::AsciiChar const* getPluginVersion() const noexcept final;
  nvinfer1::AsciiChar const* getPluginNamespace() const noexcept final;

  // IPluginV3OneBuild
  char const* getTimingCacheID() noexcept final;

  // IPluginV3OneRuntime
  nvinfer1::IPluginV3* attachToContext(nvinfer1::IPluginResourceContext* context) noexcept final;
  nvinfer1::PluginFieldCollection const* getFieldsToSerialize() noexcept final;

 protected:
  // Writes one line to TensorRT's log, if there is one, and returns what a failed call returns.
  int32_t fail(char const* where, char const* why) const noexcept;

 private:
  nvinfer1::PluginFieldCollection no_fields_{};
};

class PluginCreator final : public nvinfer1::IPluginCreatorV3One {
 public:
  using Make = nvinfer1::IPluginV3* (*)() noexcept;

  PluginCreator(char const* name, Make make) noexcept : name_(name), make_(make) {}

  nvinfer1::IPluginV3* createPlugin(nvinfer1::AsciiChar const* name,
                                    nvinfer1::PluginFieldCollection const* fields,
                                    nvinfer1::TensorRTPhase phase) noexcept override;
  nvinfer1::PluginFieldCollection const* getFieldNames() noexcept override;
  nvinfer1::AsciiChar const* getPluginName() const noexcept override;
  nvinfer1::AsciiChar const* getPluginVersion() const noexcept override;
  nvinfer1::AsciiChar const* getPluginNamespace() const noexcept override;

 private:
  char const* name_;
  Make make_;
  nvinfer1::PluginFieldCollection no_fields_{};
};

bool is_float_type(nvinfer1::DataType type) noexcept;
FloatType float_type(nvinfer1::DataType type) noexcept;

// Whether two sides agree; either may be -1, not known yet.
inline bool same_side(int64_t a, int64_t b) noexcept { return a == b || a < 0 || b < 0; }

}  // namespace rwkv_edge
