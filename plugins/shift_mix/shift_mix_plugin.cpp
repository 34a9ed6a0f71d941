#include "shift_mix_plugin.h"

#include <new>

#include "shift_mix_kernel.h"

namespace rwkv_edge {
namespace {

using nvinfer1::DataType;
using nvinfer1::Dims;
using nvinfer1::DynamicPluginTensorDesc;
using nvinfer1::PluginTensorDesc;

// The order of inputs, as in the ONNX node: x, then the weight of each mix.
constexpr int32_t kX = 0, kFirstWeight = 1;

constexpr char kCounts[] = "takes x and a weight for each output";
constexpr char kShapes[] = "x must be (B, C, H, W) and each weight (C, 1, 3, 3)";

// A dimension may be -1, not known yet.
bool weight_fits(Dims const& x, Dims const& weight) noexcept {
  return x.nbDims == 4 && weight.nbDims == 4 && same_side(weight.d[0], x.d[1]) &&
         same_side(weight.d[1], 1) && same_side(weight.d[2], 3) && same_side(weight.d[3], 3);
}

}  // namespace

template <int kMixes>
nvinfer1::IPluginV3* ShiftMixPlugin<kMixes>::make() noexcept {
  return new (std::nothrow) ShiftMixPlugin;
}

template <int kMixes>
nvinfer1::IPluginV3* ShiftMixPlugin<kMixes>::clone() noexcept {
  return make();
}

template <int kMixes>
nvinfer1::AsciiChar const* ShiftMixPlugin<kMixes>::getPluginName() const noexcept {
  return kName;
}

template <int kMixes>
int32_t ShiftMixPlugin<kMixes>::getNbOutputs() const noexcept {
  return kMixes;
}

template <int kMixes>
int32_t ShiftMixPlugin<kMixes>::getOutputDataTypes(DataType* output_types, int32_t outputs,
                                                   DataType const* input_types,
                                                   int32_t inputs) const noexcept {
  if (outputs != kMixes || inputs != kFirstWeight + kMixes) return fail("types", kCounts);
  for (int32_t n = 0; n < kMixes; ++n) output_types[n] = input_types[kX];
  return 0;
}

template <int kMixes>
int32_t ShiftMixPlugin<kMixes>::getOutputShapes(nvinfer1::DimsExprs const* inputs,
                                                int32_t input_count, nvinfer1::DimsExprs const*,
                                                int32_t, nvinfer1::DimsExprs* outputs,
                                                int32_t output_count,
                                                nvinfer1::IExprBuilder&) noexcept {
  if (output_count != kMixes || input_count != kFirstWeight + kMixes)
    return fail("shapes", kCounts);
  nvinfer1::DimsExprs const& x = inputs[kX];
  if (x.nbDims != 4) return fail("shapes", kShapes);
  for (int32_t n = 0; n < kMixes; ++n) {
    outputs[n].nbDims = 4;
    outputs[n].d[0] = x.d[0];
    outputs[n].d[1] = x.d[2];
    outputs[n].d[2] = x.d[3];
    outputs[n].d[3] = x.d[1];
  }
  return 0;
}

template <int kMixes>
bool ShiftMixPlugin<kMixes>::supportsFormatCombination(int32_t position,
                                                       DynamicPluginTensorDesc const* tensors,
                                                       int32_t inputs, int32_t outputs) noexcept {
  if (inputs != kFirstWeight + kMixes || outputs != kMixes) return false;
  if (position < 0 || position >= inputs + outputs) return false;
  PluginTensorDesc const& desc = tensors[position].desc;
  if (desc.format != nvinfer1::TensorFormat::kLINEAR) return false;
  return position == kX ? is_float_type(desc.type) : desc.type == tensors[kX].desc.type;
}

template <int kMixes>
int32_t ShiftMixPlugin<kMixes>::configurePlugin(DynamicPluginTensorDesc const* in, int32_t inputs,
                                                DynamicPluginTensorDesc const*,
                                                int32_t outputs) noexcept {
  if (inputs != kFirstWeight + kMixes || outputs != kMixes) return fail("configure", kCounts);
  for (int32_t n = 0; n < kMixes; ++n)
    if (!weight_fits(in[kX].desc.dims, in[kFirstWeight + n].desc.dims))
      return fail("configure", kShapes);
  return 0;
}

template <int kMixes>
size_t ShiftMixPlugin<kMixes>::getWorkspaceSize(DynamicPluginTensorDesc const*, int32_t,
                                                DynamicPluginTensorDesc const*,
                                                int32_t) const noexcept {
  return 0;
}

template <int kMixes>
int32_t ShiftMixPlugin<kMixes>::onShapeChange(PluginTensorDesc const* in, int32_t inputs,
                                              PluginTensorDesc const*, int32_t outputs) noexcept {
  if (inputs != kFirstWeight + kMixes || outputs != kMixes) return fail("shape change", kCounts);
  for (int32_t n = 0; n < kMixes; ++n)
    if (!weight_fits(in[kX].dims, in[kFirstWeight + n].dims)) return fail("shape change", kShapes);
  return 0;
}

template <int kMixes>
int32_t ShiftMixPlugin<kMixes>::enqueue(PluginTensorDesc const* in, PluginTensorDesc const*,
                                        void const* const* inputs, void* const* outputs, void*,
                                        cudaStream_t stream) noexcept {
  Dims const& x = in[kX].dims;
  ShiftMixParams params;
  params.batch = x.d[0];
  params.channels = x.d[1];
  params.height = x.d[2];
  params.width = x.d[3];
  params.mixes = kMixes;
  params.type = float_type(in[kX].type);
  params.x = inputs[kX];
  for (int32_t n = 0; n < kMixes; ++n) {
    params.weight[n] = inputs[kFirstWeight + n];
    params.y[n] = outputs[n];
  }
  const cudaError_t error = shift_mix(params, stream);
  return error == cudaSuccess ? 0 : fail("enqueue", cudaGetErrorString(error));
}

template class ShiftMixPlugin<2>;
template class ShiftMixPlugin<3>;

}  // namespace rwkv_edge
