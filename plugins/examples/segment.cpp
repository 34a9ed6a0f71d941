// One picture through an engine of `rwkv-edge build`, without Python. Research use only, not for
// diagnosis.
//
//   segment ENGINE PICTURE.ppm MASK.pgm [--plugin LIBRARY] [--confidence 0.5]
//
// The mask has the picture's size: 0 and 255, or the index of each class. Exit code 0 done, 1
// failed, 2 wrong usage.

#include <NvInferRuntime.h>
#include <cuda_runtime_api.h>

#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <exception>
#include <fstream>
#include <iterator>
#include <memory>
#include <stdexcept>
#include <string>
#include <vector>

#include "letterbox.h"
#include "pnm.h"

namespace {

using namespace rwkv_edge;

constexpr char kUsage[] =
    "usage: segment ENGINE PICTURE.ppm MASK.pgm [--plugin LIBRARY] [--confidence 0.5]\n";

struct Options {
  std::string engine, picture, mask, plugin;
  float confidence = 0.5f;
};

// False if the words make no sense.
bool parse(int count, char** words, Options& options) {
  std::vector<std::string> plain;
  for (int i = 1; i < count; ++i) {
    const std::string word = words[i];
    if (word.rfind("--", 0) != 0) {
      plain.push_back(word);
    } else if (word == "--plugin" && i + 1 < count) {
      options.plugin = words[++i];
    } else if (word == "--confidence" && i + 1 < count) {
      char* end = nullptr;
      options.confidence = std::strtof(words[++i], &end);
      if (end == words[i] || *end != '\0' ||
          !(options.confidence >= 0.0f && options.confidence <= 1.0f))
        return false;
    } else {
      return false;
    }
  }
  if (plain.size() != 3) return false;
  options.engine = plain[0], options.picture = plain[1], options.mask = plain[2];
  return true;
}

void check(cudaError_t code, char const* what) {
  if (code != cudaSuccess)
    throw std::runtime_error(std::string(what) + ": " + cudaGetErrorString(code));
}

// Keeps TensorRT's last error for the one line that the user reads.
class Log final : public nvinfer1::ILogger {
 public:
  void log(Severity severity, nvinfer1::AsciiChar const* text) noexcept override {
    if (severity > Severity::kERROR) return;
    try {
      last_ = text;
    } catch (std::exception const&) {
      last_.clear();
    }
  }
  [[noreturn]] void fail(std::string const& what) const {
    throw std::runtime_error(what + (last_.empty() ? "" : ": " + last_));
  }

 private:
  std::string last_;
};

struct CudaFree {
  void operator()(void* memory) const { cudaFree(memory); }
};
struct CudaDestroy {
  void operator()(cudaStream_t stream) const { cudaStreamDestroy(stream); }
};
using DeviceMemory = std::unique_ptr<void, CudaFree>;
using Stream = std::unique_ptr<CUstream_st, CudaDestroy>;

DeviceMemory allocate(std::size_t bytes) {
  void* memory = nullptr;
  check(cudaMalloc(&memory, bytes), "GPU memory");
  return DeviceMemory(memory);
}

Stream make_stream() {
  cudaStream_t stream = nullptr;
  check(cudaStreamCreate(&stream), "CUDA stream");
  return Stream(stream);
}

std::vector<char> read_file(std::string const& path) {
  std::ifstream file(path, std::ios::binary);
  if (!file) throw std::runtime_error(path + ": cannot be read");
  return {std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>()};
}

class Network {
 public:
  Network(std::string const& engine, std::string const& plugin) {
    // Before the engine, which asks for it; it stays until the process ends.
    if (!plugin.empty() && getPluginRegistry()->loadLibrary(plugin.c_str()) == nullptr)
      log_.fail(plugin + ": TensorRT cannot load it; build it with rwkv-edge plugin build");
    const std::vector<char> plan = read_file(engine);
    runtime_.reset(nvinfer1::createInferRuntime(log_));
    if (runtime_ == nullptr) log_.fail("TensorRT cannot be started");
    engine_.reset(runtime_->deserializeCudaEngine(plan.data(), plan.size()));
    if (engine_ == nullptr)
      log_.fail(engine + ": not for this TensorRT and GPU, or its plugin is missing (--plugin)");
    const nvinfer1::Dims in = engine_->getTensorShape(kInput);
    const nvinfer1::Dims out = engine_->getTensorShape(kOutput);
    if (in.nbDims != 4 || in.d[3] != 3 || out.nbDims != 4 ||
        engine_->getTensorDataType(kInput) != nvinfer1::DataType::kUINT8 ||
        engine_->getTensorDataType(kOutput) != nvinfer1::DataType::kFLOAT)
      throw std::runtime_error(engine + ": not an engine of rwkv-edge build (uint8 image in)");
    height = static_cast<int>(in.d[1]), width = static_cast<int>(in.d[2]);
    classes = static_cast<int>(out.d[1]);
    context_.reset(engine_->createExecutionContext());
    // A fixed batch of one stays as it is, a range is told that it is one.
    if (context_ == nullptr ||
        !context_->setInputShape(kInput, nvinfer1::Dims4{1, height, width, 3}))
      log_.fail(engine + ": takes no single picture");
  }

  // (height, width, 3) of the network's size -> probabilities (classes, height, width).
  std::vector<float> operator()(Image<std::uint8_t> const& input) {
    std::vector<float> result(static_cast<std::size_t>(classes) * height * width);
    const std::size_t bytes = result.size() * sizeof(float);
    const Stream stream = make_stream();
    const DeviceMemory image = allocate(input.data.size()), probability = allocate(bytes);
    check(cudaMemcpyAsync(image.get(), input.data.data(), input.data.size(), cudaMemcpyHostToDevice,
                          stream.get()),
          "copy to the GPU");
    if (!context_->setTensorAddress(kInput, image.get()) ||
        !context_->setTensorAddress(kOutput, probability.get()) ||
        !context_->enqueueV3(stream.get()))
      log_.fail("TensorRT failed");
    check(cudaMemcpyAsync(result.data(), probability.get(), bytes, cudaMemcpyDeviceToHost,
                          stream.get()),
          "copy from the GPU");
    check(cudaStreamSynchronize(stream.get()), "the network");
    return result;
  }

  int height = 0, width = 0, classes = 0;

 private:
  static constexpr char const* kInput = "image";
  static constexpr char const* kOutput = "probability";

  // In this order: what is declared last goes first.
  Log log_;
  std::unique_ptr<nvinfer1::IRuntime> runtime_;
  std::unique_ptr<nvinfer1::ICudaEngine> engine_;
  std::unique_ptr<nvinfer1::IExecutionContext> context_;
};

void segment(Options const& options) {
  const Image<std::uint8_t> frame = read_ppm(options.picture);
  int gpus = 0;
  check(cudaGetDeviceCount(&gpus), "no CUDA GPU can be used");
  Network network(options.engine, options.plugin);
  const Letterbox letterbox =
      Letterbox::fit(frame.height, frame.width, network.height, network.width);
  const std::vector<float> probability = network(letterbox.apply(frame));
  for (float value : probability)
    if (!std::isfinite(value)) throw std::runtime_error("the network's output is not finite");
  std::vector<Image<float>> planes;
  const std::size_t size = static_cast<std::size_t>(network.height) * network.width;
  for (int label = 0; label < network.classes; ++label)
    planes.push_back(letterbox.restore(probability.data() + label * size));
  Image<std::uint8_t> mask = to_mask(planes, options.confidence);
  std::size_t found = 0;
  for (std::uint8_t& pixel : mask.data) {
    found += pixel != 0;
    if (network.classes == 1) pixel = pixel != 0 ? 255 : 0;
  }
  write_pgm(options.mask, mask);
  std::printf("%s: %.2f %% of %d x %d pixels; %s; research use only, not for diagnosis\n",
              options.picture.c_str(), 100.0 * found / mask.data.size(), frame.width, frame.height,
              options.mask.c_str());
}

}  // namespace

int main(int count, char** words) {
  Options options;
  if (!parse(count, words, options)) return std::fputs(kUsage, stderr), 2;
  try {
    segment(options);
  } catch (std::exception const& error) {
    std::string line = error.what();
    for (char& letter : line)
      if (letter == '\n') letter = ' ';
    return std::fprintf(stderr, "error: %s\n", line.c_str()), 1;
  }
  return 0;
}
