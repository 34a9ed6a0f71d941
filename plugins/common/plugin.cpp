#include "plugin.h"

#include <atomic>
#include <cstdio>

#include "library.h"

namespace rwkv_edge {
namespace {

constexpr char kVersion[] = "1";
constexpr char kNamespace[] = "rwkv_edge";

std::atomic<nvinfer1::ILoggerFinder*> logger_finder{nullptr};

}  // namespace

nvinfer1::IPluginCapability* Plugin::getCapabilityInterface(
    nvinfer1::PluginCapabilityType type) noexcept {
  switch (type) {
    case nvinfer1::PluginCapabilityType::kCORE:
      return static_cast<nvinfer1::IPluginV3OneCore*>(this);
    case nvinfer1::PluginCapabilityType::kBUILD:
      return static_cast<nvinfer1::IPluginV3OneBuild*>(this);
    case nvinfer1::PluginCapabilityType::kRUNTIME:
      return static_cast<nvinfer1::IPluginV3OneRuntime*>(this);
  }
  return nullptr;
}

nvinfer1::AsciiChar const* Plugin::getPluginVersion() const noexcept { return kVersion; }
nvinfer1::AsciiChar const* Plugin::getPluginNamespace() const noexcept { return kNamespace; }

// One tactic: timings depend on shapes and types alone.
char const* Plugin::getTimingCacheID() noexcept { return ""; }

nvinfer1::IPluginV3* Plugin::attachToContext(nvinfer1::IPluginResourceContext*) noexcept {
  return clone();
}

nvinfer1::PluginFieldCollection const* Plugin::getFieldsToSerialize() noexcept {
  return &no_fields_;
}

int32_t Plugin::fail(char const* where, char const* why) const noexcept {
  nvinfer1::ILoggerFinder* const finder = logger_finder.load();
  nvinfer1::ILogger* const logger = finder != nullptr ? finder->findLogger() : nullptr;
  if (logger != nullptr) {
    char line[256];
    std::snprintf(line, sizeof line, "%s::%s, %s: %s", kNamespace, getPluginName(), where, why);
    logger->log(nvinfer1::ILogger::Severity::kERROR, line);
  }
  return -1;
}

nvinfer1::IPluginV3* PluginCreator::createPlugin(nvinfer1::AsciiChar const*,
                                                 nvinfer1::PluginFieldCollection const*,
                                                 nvinfer1::TensorRTPhase) noexcept {
  return make_();
}

nvinfer1::PluginFieldCollection const* PluginCreator::getFieldNames() noexcept {
  return &no_fields_;
}

nvinfer1::AsciiChar const* PluginCreator::getPluginName() const noexcept { return name_; }
nvinfer1::AsciiChar const* PluginCreator::getPluginVersion() const noexcept { return kVersion; }
nvinfer1::AsciiChar const* PluginCreator::getPluginNamespace() const noexcept {
  return kNamespace;
}

bool is_float_type(nvinfer1::DataType type) noexcept {
  return type == nvinfer1::DataType::kFLOAT || type == nvinfer1::DataType::kHALF ||
         type == nvinfer1::DataType::kBF16;
}

FloatType float_type(nvinfer1::DataType type) noexcept {
  switch (type) {
    case nvinfer1::DataType::kHALF:
      return FloatType::kHalf;
    case nvinfer1::DataType::kBF16:
      return FloatType::kBFloat16;
    default:
      return FloatType::kFloat;
  }
}

}  // namespace rwkv_edge

void setLoggerFinder(nvinfer1::ILoggerFinder* finder) { rwkv_edge::logger_finder.store(finder); }
