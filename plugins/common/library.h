// What TensorRT looks for in a plugin library (IPluginRegistry::loadLibrary, trtexec
// --staticPlugins).
#pragma once

#include <NvInferRuntime.h>

#if defined(_WIN32)
#define RWKV_EDGE_EXPORT __declspec(dllexport)
#else
#define RWKV_EDGE_EXPORT __attribute__((visibility("default")))
#endif

extern "C" RWKV_EDGE_EXPORT void setLoggerFinder(nvinfer1::ILoggerFinder* finder);
extern "C" RWKV_EDGE_EXPORT nvinfer1::IPluginCreatorInterface* const* getCreators(int32_t& count);
