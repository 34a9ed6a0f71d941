#include "bi_wkv_plugin.h"

#include <new>

#include "bi_wkv_kernel.h"

namespace rwkv_edge {
namespace {

using nvinfer1::DataType;
using nvinfer1::Dims;
using nvinfer1::DynamicPluginTensorDesc;
using nvinfer1::PluginTensorDesc;

// The order of inputs, as in the ONNX node, with the output behind them.
enum Tensor : int32_t { kW, kU, kK, kV, kInputs, kY = kInputs, kTensors };

// w and u (C), k, v and y (B, T, C). A dimension may be -1, not known yet.
bool shapes_fit(Dims const& w, Dims const& u, Dims const& k, Dims const& v) noexcept {
  if (w.nbDims != 1 || u.nbDims != 1 || k.nbDims != 3 || v.nbDims != 3) return false;
  for (int32_t i = 0; i < 3; ++i)
    if (!same_side(k.d[i], v.d[i])) return false;
  return same_side(w.d[0], k.d[2]) && same_side(u.d[0], k.d[2]);
}

}  // namespace

nvinfer1::IPluginV3* BiWkvPlugin::make() noexcept { return new (std::nothrow) BiWkvPlugin; }
nvinfer1::IPluginV3* BiWkvPlugin::clone() noexcept { return make(); }
nvinfer1::AsciiChar const* BiWkvPlugin::getPluginName() const noexcept { return kName; }

int32_t BiWkvPlugin::getNbOutputs() const noexcept { return 1; }

int32_t BiWkvPlugin::getOutputDataTypes(DataType* output_types, int32_t outputs,
                                        DataType const* input_types,
                                        int32_t inputs) const noexcept {
  if (outputs != 1 || inputs != kInputs) return fail("types", "takes w, u, k, v and gives y");
  output_types[0] = input_types[kK];
  return 0;
}

int32_t BiWkvPlugin::getOutputShapes(nvinfer1::DimsExprs const* inputs, int32_t input_count,
                                     nvinfer1::DimsExprs const*, int32_t,
                                     nvinfer1::DimsExprs* outputs, int32_t output_count,
                                     nvinfer1::IExprBuilder&) noexcept {
  if (output_count != 1 || input_count != kInputs)
    return fail("shapes", "takes w, u, k, v and gives y");
  if (inputs[kW].nbDims != 1 || inputs[kU].nbDims != 1 || inputs[kK].nbDims != 3 ||
      inputs[kV].nbDims != 3)
    return fail("shapes", "w and u must be (C), k and v (B, T, C)");
  outputs[0] = inputs[kK];
  return 0;
}

bool BiWkvPlugin::supportsFormatCombination(int32_t position,
                                            DynamicPluginTensorDesc const* tensors, int32_t inputs,
                                            int32_t outputs) noexcept {
  if (inputs != kInputs || outputs != 1 || position < 0 || position >= kTensors) return false;
  PluginTensorDesc const& desc = tensors[position].desc;
  if (desc.format != nvinfer1::TensorFormat::kLINEAR) return false;
  if (position == kW || position == kU) return desc.type == DataType::kFLOAT;
  return position == kK ? is_float_type(desc.type) : desc.type == tensors[kK].desc.type;
}

int32_t BiWkvPlugin::configurePlugin(DynamicPluginTensorDesc const* in, int32_t inputs,
                                     DynamicPluginTensorDesc const*, int32_t outputs) noexcept {
  if (inputs != kInputs || outputs != 1) return fail("configure", "takes w, u, k, v and gives y");
  if (!shapes_fit(in[kW].desc.dims, in[kU].desc.dims, in[kK].desc.dims, in[kV].desc.dims))
    return fail("configure", "w and u must be (C), k and v (B, T, C) with the same C");
  return 0;
}

size_t BiWkvPlugin::getWorkspaceSize(DynamicPluginTensorDesc const* in, int32_t,
                                     DynamicPluginTensorDesc const*, int32_t) const noexcept {
  Dims const& k = in[kK].max;
  return bi_wkv_forward_workspace(k.d[0], k.d[1], k.d[2]);
}

int32_t BiWkvPlugin::onShapeChange(PluginTensorDesc const* in, int32_t inputs,
                                   PluginTensorDesc const*, int32_t outputs) noexcept {
  if (inputs != kInputs || outputs != 1) return fail("shape change", "takes w, u, k, v, gives y");
  if (!shapes_fit(in[kW].dims, in[kU].dims, in[kK].dims, in[kV].dims))
    return fail("shape change", "w and u must be (C), k and v (B, T, C) with the same C");
  return 0;
}

int32_t BiWkvPlugin::enqueue(PluginTensorDesc const* in, PluginTensorDesc const*,
                             void const* const* inputs, void* const* outputs, void* workspace,
                             cudaStream_t stream) noexcept {
  Dims const& k = in[kK].dims;
  BiWkvParams params;
  params.batch = k.d[0];
  params.tokens = k.d[1];
  params.channels = k.d[2];
  params.type = float_type(in[kK].type);
  params.w = static_cast<float const*>(inputs[kW]);
  params.u = static_cast<float const*>(inputs[kU]);
  params.k = inputs[kK];
  params.v = inputs[kV];
  params.y = outputs[0];
  params.workspace = workspace;
  // TensorRT keeps what getWorkspaceSize asked for at the largest shape, so at least this.
  params.workspace_bytes = bi_wkv_forward_workspace(k.d[0], k.d[1], k.d[2]);
  const cudaError_t error = bi_wkv_forward(params, stream);
  return error == cudaSuccess ? 0 : fail("enqueue", cudaGetErrorString(error));
}

}  // namespace rwkv_edge
