// Loads the plugin library as TensorRT does and holds it to the contract, without TensorRT and
// without a GPU. Prints what fails and returns how much.   plugin_contract librwkv_edge_plugin.so

#include <NvInferRuntime.h>
#include <dlfcn.h>

#include <cstdio>
#include <cstring>
#include <initializer_list>
#include <memory>

using namespace nvinfer1;

namespace {

int failures = 0;

void expect(bool good, char const* what) {
  if (!good) std::printf("failed: %s\n", what), ++failures;
}

struct Log final : ILogger, ILoggerFinder {
  int errors = 0;
  void log(Severity severity, AsciiChar const*) noexcept override {
    errors += severity == Severity::kERROR;
  }
  ILogger* findLogger() noexcept override { return this; }
};

PluginTensorDesc tensor(DataType type, TensorFormat format, std::initializer_list<int64_t> dims) {
  PluginTensorDesc desc = {};
  desc.type = type;
  desc.format = format;
  for (int64_t d : dims) desc.dims.d[desc.dims.nbDims++] = d;
  return desc;
}

bool supports(IPluginV3OneBuild* build, DataType scalars, DataType data, TensorFormat format) {
  DynamicPluginTensorDesc all[5] = {};
  for (int i = 0; i < 5; ++i) all[i].desc = tensor(i < 2 ? scalars : data, format, {});
  bool all_fit = true;
  for (int i = 0; i < 5; ++i) all_fit &= build->supportsFormatCombination(i, all, 4, 1);
  return all_fit;
}

void check_bi_wkv(IPluginV3OneBuild* build) {
  constexpr TensorFormat kLinear = TensorFormat::kLINEAR;
  for (DataType type : {DataType::kFLOAT, DataType::kHALF, DataType::kBF16})
    expect(supports(build, DataType::kFLOAT, type, kLinear), "float types are supported");
  expect(!supports(build, DataType::kHALF, DataType::kHALF, kLinear), "w and u stay float32");
  expect(!supports(build, DataType::kFLOAT, DataType::kINT32, kLinear), "integers are refused");
  expect(!supports(build, DataType::kFLOAT, DataType::kHALF, TensorFormat::kCHW2),
         "other layouts are refused");
  DataType const in[4] = {DataType::kFLOAT, DataType::kFLOAT, DataType::kHALF, DataType::kHALF};
  DataType out = DataType::kFLOAT;
  expect(build->getOutputDataTypes(&out, 1, in, 4) == 0 && out == DataType::kHALF, "y is like k");
  expect(build->getOutputDataTypes(&out, 1, in, 3) != 0, "three inputs are refused");

  DynamicPluginTensorDesc tensors[5] = {};
  tensors[2].max = tensors[3].max = tensor(DataType::kHALF, kLinear, {2, 1024, 288}).dims;
  expect(build->getWorkspaceSize(tensors, 4, tensors + 4, 1) > 0, "workspace for many tokens");
  tensors[2].max.d[1] = 100;
  expect(build->getWorkspaceSize(tensors, 4, tensors + 4, 1) == 0, "none for few");
}

void check_bi_wkv(IPluginV3OneRuntime* runtime, Log& log) {
  constexpr TensorFormat kLinear = TensorFormat::kLINEAR;
  const PluginTensorDesc k = tensor(DataType::kHALF, kLinear, {2, 1024, 288});
  PluginTensorDesc in[4] = {tensor(DataType::kFLOAT, kLinear, {288}),
                            tensor(DataType::kFLOAT, kLinear, {288}), k, k};
  expect(runtime->onShapeChange(in, 4, &k, 1) == 0, "good shapes pass");
  in[0].dims.d[0] = 287;
  expect(runtime->onShapeChange(in, 4, &k, 1) != 0, "a w of other length is refused");
  in[0].dims.d[0] = 288;
  const int before = log.errors;
  void const* inputs[4] = {};
  void* output = nullptr;
  expect(runtime->enqueue(in, &k, inputs, &output, nullptr, nullptr) != 0, "null is refused");
  expect(log.errors > before, "a refusal is logged");
}

// x, the weights and the mixes, in a row.
struct MixTensors {
  PluginTensorDesc at[7] = {};
  int mixes;
  MixTensors(int n, DataType type, TensorFormat format = TensorFormat::kLINEAR) : mixes(n) {
    at[0] = tensor(type, format, {2, 96, 8, 6});
    for (int i = 0; i < n; ++i) {
      at[1 + i] = tensor(type, format, {96, 1, 3, 3});
      at[1 + n + i] = tensor(type, format, {2, 8, 6, 96});
    }
  }
  bool supported(IPluginV3OneBuild* build) const {
    DynamicPluginTensorDesc all[7] = {};
    bool all_fit = true;
    for (int i = 0; i <= 2 * mixes; ++i) all[i].desc = at[i];
    for (int i = 0; i <= 2 * mixes; ++i)
      all_fit &= build->supportsFormatCombination(i, all, 1 + mixes, mixes);
    return all_fit;
  }
};

void check_shift_mix(IPluginV3OneBuild* build, int mixes) {
  expect(build->getNbOutputs() == mixes, "an output for each mix");
  for (DataType type : {DataType::kFLOAT, DataType::kHALF, DataType::kBF16})
    expect(MixTensors(mixes, type).supported(build), "float types are supported");
  expect(!MixTensors(mixes, DataType::kINT32).supported(build), "integers are refused");
  expect(!MixTensors(mixes, DataType::kHALF, TensorFormat::kHWC8).supported(build),
         "other layouts are refused");
  MixTensors mixed(mixes, DataType::kHALF);
  mixed.at[1].type = DataType::kFLOAT;
  expect(!mixed.supported(build), "one type for all");
  DataType const in[4] = {DataType::kHALF, DataType::kHALF, DataType::kHALF, DataType::kHALF};
  DataType out[3] = {DataType::kFLOAT, DataType::kFLOAT, DataType::kFLOAT};
  expect(build->getOutputDataTypes(out, mixes, in, 1 + mixes) == 0, "types are given");
  for (int n = 0; n < mixes; ++n) expect(out[n] == DataType::kHALF, "a mix is like x");
  expect(build->getOutputDataTypes(out, mixes, in, mixes) != 0, "too few inputs are refused");
}

void check_shift_mix(IPluginV3OneRuntime* runtime, int mixes, Log& log) {
  MixTensors good(mixes, DataType::kHALF);
  PluginTensorDesc* const out = good.at + 1 + mixes;
  expect(runtime->onShapeChange(good.at, 1 + mixes, out, mixes) == 0, "good shapes pass");
  good.at[mixes].dims.d[0] = 95;
  expect(runtime->onShapeChange(good.at, 1 + mixes, out, mixes) != 0, "a wrong weight is refused");
  good.at[mixes].dims.d[0] = 96;
  const int before = log.errors;
  void const* inputs[4] = {};
  void* outputs[3] = {};
  expect(runtime->enqueue(good.at, out, inputs, outputs, nullptr, nullptr) != 0, "null is refused");
  expect(log.errors > before, "a refusal is logged");
}

}  // namespace

int main(int, char** arguments) {
  void* const library = dlopen(arguments[1], RTLD_NOW | RTLD_LOCAL);
  if (library == nullptr) return std::printf("%s\n", dlerror()), 1;
  auto* const find = reinterpret_cast<void (*)(ILoggerFinder*)>(dlsym(library, "setLoggerFinder"));
  auto* const get = reinterpret_cast<IPluginCreatorInterface* const* (*)(int32_t&)>(
      dlsym(library, "getCreators"));
  if (find == nullptr || get == nullptr) return std::printf("an export is missing\n"), 1;

  Log log;
  find(&log);
  constexpr char const* kNames[] = {"BiWKV", "ShiftMix2", "ShiftMix3"};
  int32_t count = 0;
  IPluginCreatorInterface* const* const creators = get(count);
  expect(count == 3, "three creators");
  for (int32_t i = 0; i < count; ++i) {
    auto* const creator = static_cast<IPluginCreatorV3One*>(creators[i]);
    expect(!std::strcmp(creator->getPluginName(), kNames[i]), "name");
    expect(!std::strcmp(creator->getPluginVersion(), "1"), "version");
    expect(!std::strcmp(creator->getPluginNamespace(), "rwkv_edge"), "namespace");
    PluginFieldCollection const none = {};
    for (TensorRTPhase phase : {TensorRTPhase::kBUILD, TensorRTPhase::kRUNTIME}) {
      const std::unique_ptr<IPluginV3> plugin(creator->createPlugin("node", &none, phase));
      const std::unique_ptr<IPluginV3> copy(plugin->clone());
      auto* const core =
          static_cast<IPluginV3OneCore*>(copy->getCapabilityInterface(PluginCapabilityType::kCORE));
      expect(!std::strcmp(core->getPluginName(), kNames[i]), "the plugin's own name");
      auto* const build = static_cast<IPluginV3OneBuild*>(
          copy->getCapabilityInterface(PluginCapabilityType::kBUILD));
      auto* const runtime = static_cast<IPluginV3OneRuntime*>(
          copy->getCapabilityInterface(PluginCapabilityType::kRUNTIME));
      const std::unique_ptr<IPluginV3> attached(runtime->attachToContext(nullptr));
      expect(attached != nullptr && attached.get() != copy.get(), "a context gets its own");
      PluginFieldCollection const* fields = runtime->getFieldsToSerialize();
      expect(fields != nullptr && fields->nbFields == 0, "nothing needs serialising");
      if (i == 0) {
        check_bi_wkv(build);
        check_bi_wkv(runtime, log);
      } else {
        check_shift_mix(build, i + 1);
        check_shift_mix(runtime, i + 1, log);
      }
    }
  }
  find(nullptr);
  return failures;
}
