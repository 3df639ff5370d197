// An emulated NVRTC: compiles CUDA programs for the host with the C++ compiler that
// ANVIL_EMULATED_CXX names (default "g++ -O1"; a shell command without files).
//
// The text is preprocessed without any of the host's headers, as NVRTC has none; then its kernels
// are compiled behind host.hpp into a shared library. ANVIL_EMULATED_CACHE names a folder that
// keeps libraries by the hash of everything they depend on.
#pragma GCC visibility push(default)
#include <nvrtc.h>
#pragma GCC visibility pop

#include <unistd.h>

#include <algorithm>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "kernel_text.hpp"
#include "payload.hpp"

namespace anvil_emulated {

namespace {

namespace fs = std::filesystem;

struct Program {
  std::string source, name, log;
  std::vector<char> cubin, ptx;
};

std::mutex mutex;
std::map<nvrtcProgram, std::unique_ptr<Program>> programs;

const int kArchitectures[] = {75, 80, 86, 87, 89, 90, 100, 103, 110, 120, 121};

Program* find(nvrtcProgram handle) {
  const auto found = programs.find(handle);
  return found == programs.end() ? nullptr : found->second.get();
}

std::string quoted(const std::string& text) {
  std::string out = "'";
  for (const char c : text) out += c == '\'' ? std::string("'\\''") : std::string(1, c);
  return out + "'";
}

std::string read_text(const fs::path& path) {
  std::ifstream file(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>()};
}

void write_text(const fs::path& path, const std::string& text) {
  if (path.has_parent_path()) fs::create_directories(path.parent_path());
  std::ofstream(path, std::ios::binary) << text;
}

std::string environment(const char* name, const char* otherwise) {
  const char* text = std::getenv(name);
  return text == nullptr || *text == 0 ? otherwise : text;
}

// A folder that is removed with everything in it.
struct Workspace {
  fs::path path;
  Workspace() {
    std::string name = (fs::temp_directory_path() / "anvil-nvrtc-XXXXXX").string();
    if (mkdtemp(name.data()) != nullptr) path = name;
  }
  ~Workspace() {
    std::error_code ignored;
    if (!path.empty()) fs::remove_all(path, ignored);
  }
};

// What the options ask for; each is one that NVRTC knows, spelled as NVRTC demands.
struct Options {
  int architecture = kArchitectures[0];
  bool is_virtual = true;  // compute_XX: no machine code
  std::string preprocessor;
  std::string error;

  explicit Options(const std::vector<std::string>& words) {
    for (std::size_t k = 0; k < words.size() && error.empty(); ++k) {
      std::string name = words[k], value;
      const std::size_t equals = name.find('=');
      const std::string short_name = name.substr(0, 2);
      if (short_name == "-I" || short_name == "-D" || short_name == "-U") {
        value = name.size() > 2 ? name.substr(2) : ++k < words.size() ? words[k] : "";
        preprocessor += " " + quoted(short_name + value);
        continue;
      }
      const bool has_value = equals != std::string::npos;
      if (has_value) {
        value = name.substr(equals + 1);
        name.resize(equals);
      } else if (is_any(name, {"-arch", "--gpu-architecture", "-std", "--std"})) {
        value = ++k < words.size() ? words[k] : "";
      }
      read(name, value, words[k], has_value);
    }
  }

 private:
  static bool is_any(const std::string& name, std::initializer_list<const char*> names) {
    return std::find(names.begin(), names.end(), name) != names.end();
  }

  void read(const std::string& name, const std::string& value, const std::string& word,
            bool has_value) {
    const bool is_flag = !has_value;
    if (is_any(name, {"-arch", "--gpu-architecture"})) {
      read_architecture(value);
    } else if (is_any(name, {"-std", "--std"})) {
      if (!is_any(value, {"c++03", "c++11", "c++14", "c++17", "c++20"})) {
        error = "invalid value for --std(-std)";
      }
    } else if (is_any(name, {"--include-path", "--define-macro", "--undefine-macro"}) && has_value) {
      preprocessor += name[2] == 'i' ? " -I" : name[2] == 'd' ? " -D" : " -U";
      preprocessor += quoted(value);
    } else if (is_any(name, {"-fmad", "--fmad", "-ftz", "--ftz", "-prec-div", "--prec-div",
                             "-prec-sqrt", "--prec-sqrt"})) {
      if (!is_any(value, {"true", "false"})) error = name + " expects true or false";
    } else if (is_any(name, {"-use_fast_math", "--use_fast_math"}) && is_flag) {
      error = "--use_fast_math is not emulated";
    } else if (!known_without_effect(name, has_value)) {
      error = "unrecognized option " + word + " found";
    }
  }

  static bool known_without_effect(const std::string& name, bool has_value) {
    if (has_value) {
      return is_any(name, {"--maxrregcount", "-maxrregcount", "--ptxas-options", "-Xptxas",
                           "--dopt", "-dopt", "--diag-suppress", "-diag-suppress",
                           "--split-compile", "-split-compile", "--time", "-time"});
    }
    return is_any(name,
                  {"-default-device", "--device-as-default-execution-space", "-lineinfo",
                   "--generate-line-info", "-extra-device-vectorization",
                   "--extra-device-vectorization", "-w", "--disable-warnings", "--restrict",
                   "-restrict", "-G", "--device-debug", "--minimal", "-minimal",
                   "--no-source-include", "-no-source-include", "-ewp", "--extensible-whole-program"});
  }

  void read_architecture(const std::string& value) {
    is_virtual = value.rfind("compute_", 0) == 0;
    const std::size_t prefix = is_virtual ? 8 : 3;
    char* end = nullptr;
    architecture = value.size() > prefix && (is_virtual || value.rfind("sm_", 0) == 0)
                       ? static_cast<int>(std::strtol(value.c_str() + prefix, &end, 10))
                       : 0;
    const std::string suffix = end != nullptr ? end : "";
    if (std::find(std::begin(kArchitectures), std::end(kArchitectures), architecture) ==
            std::end(kArchitectures) ||
        !is_any(suffix, {"", "a", "f"})) {
      error = "invalid value for --gpu-architecture (-arch)";
    }
  }
};

// Runs a compiler; what it says goes to the program's log.
bool run(const std::string& command, const Workspace& workspace, Program& program) {
  const fs::path log = workspace.path / "log";
  // A sanitizer that is preloaded into the caller must not check the compiler.
  const std::string whole = "cd " + quoted(workspace.path.string()) + " && env -u LD_PRELOAD " +
                            command + " > log 2>&1 < /dev/null";
  const bool succeeded = std::system(whole.c_str()) == 0;
  program.log += read_text(log);
  return succeeded;
}

std::string hash_of(const std::string& text) {
  std::uint64_t hash = 14695981039346656037ull;
  for (const char c : text) hash = (hash ^ static_cast<unsigned char>(c)) * 1099511628211ull;
  return std::to_string(hash) + "-" + std::to_string(text.size());
}

// The whole translation unit: the kernels between the emulation and their descriptions.
std::string wrap(const std::string& preprocessed) {
  KernelText text(preprocessed);
  const std::string body = text.rewrite();
  std::string out = "#include \"host.hpp\"\n#include \"module.hpp\"\n#include \"nvrtc_names.hpp\"\n";
  out += body + "\n#include \"launch.hpp\"\n";
  for (const FoundKernel& kernel : text.kernels) {
    out += "ANVIL_DESCRIBE_KERNEL(" + kernel.name + ", anvil_host::first_of(" + kernel.bounds +
           "))\n";
  }
  return out;
}

bool build(Program& program, const Options& options, std::vector<char>& library) {
  const Workspace workspace;
  const std::string compiler = environment("ANVIL_EMULATED_CXX", "g++ -O1");
  const fs::path source = workspace.path / "source";
  write_text(source / "program.cu", "#line 1 \"" + program.name + "\"\n" + program.source);

  if (!run(compiler + " -std=c++17 -x c++ -E -nostdinc -nostdinc++ -U__GNUC__ -D__CUDACC__=1"
                      " -D__CUDACC_RTC__=1 -Isource" + options.preprocessor +
               " source/program.cu -o program.ii", workspace, program)) {
    return false;
  }
  const std::string text = wrap(read_text(workspace.path / "program.ii"));
  const std::string cache = environment("ANVIL_EMULATED_CACHE", "");
  const fs::path kept = cache.empty() ? fs::path() : fs::path(cache) /
                        (hash_of(text + compiler + ANVIL_EMULATOR_VERSION) + ".so");
  if (cache.empty() || !fs::exists(kept)) {
    write_text(workspace.path / "module.cpp", text);
    if (!run(compiler + " -std=c++17 -w -shared -fPIC -fvisibility=hidden -Wl,-Bsymbolic -I" +
                 quoted(ANVIL_EMULATOR_FOLDER) + " module.cpp -o module.so",
             workspace, program)) {
      return false;
    }
  }
  const bool hit = !fs::exists(workspace.path / "module.so");
  const std::string bytes = read_text(hit ? kept : workspace.path / "module.so");
  library.assign(bytes.begin(), bytes.end());
  if (!cache.empty() && !hit) {
    // Renamed when complete: several processes may share the folder.
    fs::create_directories(cache);
    const fs::path draft = kept.string() + "." + std::to_string(getpid());
    write_text(draft, bytes);
    fs::rename(draft, kept);
  }
  return true;
}

nvrtcResult give(const std::vector<char>& bytes, char* out) {
  std::copy(bytes.begin(), bytes.end(), out);
  return NVRTC_SUCCESS;
}

}  // namespace

}  // namespace anvil_emulated

using namespace anvil_emulated;

#define ANVIL_FIND(program, handle)                     \
  const std::lock_guard<std::mutex> guard(mutex);       \
  Program* const program = find(handle);                \
  if (program == nullptr) return NVRTC_ERROR_INVALID_PROGRAM

extern "C" {

nvrtcResult nvrtcVersion(int* major, int* minor) {
  if (major == nullptr || minor == nullptr) return NVRTC_ERROR_INVALID_INPUT;
  *major = ANVIL_EMULATED_NVRTC_MAJOR;
  *minor = 9;
  return NVRTC_SUCCESS;
}

const char* nvrtcGetErrorString(nvrtcResult result) {
  switch (result) {
    case NVRTC_SUCCESS: return "NVRTC_SUCCESS";
    case NVRTC_ERROR_OUT_OF_MEMORY: return "NVRTC_ERROR_OUT_OF_MEMORY";
    case NVRTC_ERROR_INVALID_INPUT: return "NVRTC_ERROR_INVALID_INPUT";
    case NVRTC_ERROR_INVALID_PROGRAM: return "NVRTC_ERROR_INVALID_PROGRAM";
    case NVRTC_ERROR_INVALID_OPTION: return "NVRTC_ERROR_INVALID_OPTION";
    case NVRTC_ERROR_COMPILATION: return "NVRTC_ERROR_COMPILATION";
    default: return "NVRTC_ERROR unknown";
  }
}

nvrtcResult nvrtcGetNumSupportedArchs(int* count) {
  *count = static_cast<int>(std::size(kArchitectures));
  return NVRTC_SUCCESS;
}

nvrtcResult nvrtcGetSupportedArchs(int* out) {
  std::copy(std::begin(kArchitectures), std::end(kArchitectures), out);
  return NVRTC_SUCCESS;
}

// Headers beside the program are not emulated.
nvrtcResult nvrtcCreateProgram(nvrtcProgram* out, const char* source, const char* name, int count,
                               const char* const*, const char* const*) {
  const std::lock_guard<std::mutex> guard(mutex);
  if (out == nullptr || source == nullptr || count != 0) return NVRTC_ERROR_INVALID_INPUT;
  static std::uintptr_t last = 0x1000;
  auto program = std::make_unique<Program>();
  program->source = source;
  program->name = name == nullptr ? "default_program" : name;
  *out = reinterpret_cast<nvrtcProgram>(last += 16);
  programs[*out] = std::move(program);
  return NVRTC_SUCCESS;
}

nvrtcResult nvrtcDestroyProgram(nvrtcProgram* handle) {
  if (handle == nullptr) return NVRTC_ERROR_INVALID_PROGRAM;
  ANVIL_FIND(program, *handle);
  programs.erase(*handle);
  *handle = nullptr;
  return NVRTC_SUCCESS;
}

nvrtcResult nvrtcCompileProgram(nvrtcProgram handle, int count, const char* const* words) {
  ANVIL_FIND(program, handle);
  program->log.clear();
  program->cubin.clear();
  program->ptx.clear();
  const Options options(std::vector<std::string>(words, words + count));
  if (!options.error.empty()) {
    program->log = "nvrtc: error: " + options.error + "\n";
    return NVRTC_ERROR_INVALID_OPTION;
  }
  std::vector<char> library;
  if (!build(*program, options, library)) return NVRTC_ERROR_COMPILATION;
  if (!options.is_virtual) program->cubin = write_cubin(options.architecture, library);
  program->ptx = write_ptx(options.architecture, library);
  return NVRTC_SUCCESS;
}

nvrtcResult nvrtcGetCUBINSize(nvrtcProgram handle, size_t* size) {
  ANVIL_FIND(program, handle);
  *size = program->cubin.size();
  return NVRTC_SUCCESS;
}

nvrtcResult nvrtcGetCUBIN(nvrtcProgram handle, char* out) {
  ANVIL_FIND(program, handle);
  return program->cubin.empty() ? NVRTC_ERROR_INVALID_PROGRAM : give(program->cubin, out);
}

nvrtcResult nvrtcGetPTXSize(nvrtcProgram handle, size_t* size) {
  ANVIL_FIND(program, handle);
  *size = program->ptx.size();
  return NVRTC_SUCCESS;
}

nvrtcResult nvrtcGetPTX(nvrtcProgram handle, char* out) {
  ANVIL_FIND(program, handle);
  return program->ptx.empty() ? NVRTC_ERROR_INVALID_PROGRAM : give(program->ptx, out);
}

// The size counts the zero at the end.
nvrtcResult nvrtcGetProgramLogSize(nvrtcProgram handle, size_t* size) {
  ANVIL_FIND(program, handle);
  *size = program->log.size() + 1;
  return NVRTC_SUCCESS;
}

nvrtcResult nvrtcGetProgramLog(nvrtcProgram handle, char* out) {
  ANVIL_FIND(program, handle);
  std::copy_n(program->log.c_str(), program->log.size() + 1, out);
  return NVRTC_SUCCESS;
}

#pragma GCC visibility push(default)
int anvil_emulated_live_programs() {
  const std::lock_guard<std::mutex> guard(mutex);
  return static_cast<int>(programs.size());
}
#pragma GCC visibility pop
}
