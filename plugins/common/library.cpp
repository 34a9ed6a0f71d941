// The plugins of the library, by the names of their ONNX operators.

#include "library.h"

#include "../bi_wkv/bi_wkv_plugin.h"
#include "../shift_mix/shift_mix_plugin.h"

nvinfer1::IPluginCreatorInterface* const* getCreators(int32_t& count) {
  using namespace rwkv_edge;
  static PluginCreator bi_wkv(BiWkvPlugin::kName, BiWkvPlugin::make);
  static PluginCreator two(ShiftMixPlugin<2>::kName, ShiftMixPlugin<2>::make);
  static PluginCreator three(ShiftMixPlugin<3>::kName, ShiftMixPlugin<3>::make);
  static nvinfer1::IPluginCreatorInterface* const creators[] = {&bi_wkv, &two, &three};
  count = sizeof creators / sizeof *creators;
  return creators;
}
