// What a call came to: true if it went well, otherwise `text` says what failed.
class [[nodiscard]] Status {
 public:
    constexpr Status() noexcept = default;

    static Status failure(const char* what, const char* why) noexcept {
        Status status;
        status.failed_ = true;
        std::snprintf(status.text_, sizeof(status.text_), "%s: %s", what, why);
        return status;
    }

    explicit operator bool() const noexcept { return !failed_; }
    const char* text() const noexcept { return text_; }

 private:
    bool failed_ = false;
    char text_[1024] = {};
};

namespace detail {

// `what` is the function that was called, `subject` what it was called for.
inline Status driver_status(CUresult result, const char* what,
                            const char* subject = nullptr) noexcept {
    if (result == CUDA_SUCCESS) return {};
    const char* name = nullptr;
    const char* text = nullptr;
    if (cuGetErrorName(result, &name) != CUDA_SUCCESS || name == nullptr) name = "unknown error";
    if (cuGetErrorString(result, &text) != CUDA_SUCCESS || text == nullptr) text = "";
    char called[256];
    char why[512];
    std::snprintf(called, sizeof(called), "%s%s%s", what, subject == nullptr ? "" : " of ",
                  subject == nullptr ? "" : subject);
    std::snprintf(why, sizeof(why), "%s %s", name, text);
    return Status::failure(called, why);
}

inline Status compiler_status(nvrtcResult result, const char* what) noexcept {
    if (result == NVRTC_SUCCESS) return {};
    return Status::failure(what, nvrtcGetErrorString(result));
}

// Makes a context current for as long as it lives.
class CurrentContext {
 public:
    explicit CurrentContext(CUcontext context) noexcept
        : status_(driver_status(cuCtxPushCurrent(context), "cuCtxPushCurrent")) {}
    CurrentContext(const CurrentContext&) = delete;
    CurrentContext& operator=(const CurrentContext&) = delete;
    ~CurrentContext() {
        CUcontext popped = nullptr;
        if (status_) cuCtxPopCurrent(&popped);
    }
    const Status& status() const noexcept { return status_; }

 private:
    Status status_;
};

// A device's primary context, which is also the one of the CUDA runtime, JAX, PyTorch and CuPy.
class Device {
 public:
    Device() noexcept = default;
    Device(const Device&) = delete;
    Device& operator=(const Device&) = delete;
    ~Device() {
        if (context_ != nullptr) cuDevicePrimaryCtxRelease(device_);
    }

    Status open(int number) noexcept {
        Status status = driver_status(cuInit(0), "cuInit");
        if (status) status = driver_status(cuDeviceGet(&device_, number), "cuDeviceGet");
        if (status) {
            status = driver_status(cuDevicePrimaryCtxRetain(&context_, device_),
                                   "cuDevicePrimaryCtxRetain");
        }
        return status;
    }

    // The number of the architecture, 80 for sm_80.
    Status architecture(int& number) const noexcept {
        int major = 0, minor = 0;
        Status status = driver_status(
            cuDeviceGetAttribute(&major, CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR, device_),
            "cuDeviceGetAttribute");
        if (status) {
            status = driver_status(
                cuDeviceGetAttribute(&minor, CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR, device_),
                "cuDeviceGetAttribute");
        }
        number = 10 * major + minor;
        return status;
    }

    CUcontext context() const noexcept { return context_; }

 private:
    CUdevice device_ = 0;
    CUcontext context_ = nullptr;
};

// The newest architecture up to `wanted` that this NVRTC compiles for, 80 if it does not say.
inline int known_architecture(int wanted) {
    int count = 0;
    if (nvrtcGetNumSupportedArchs(&count) != NVRTC_SUCCESS || count <= 0) return 80;
    std::vector<int> known(static_cast<std::size_t>(count));
    if (nvrtcGetSupportedArchs(known.data()) != NVRTC_SUCCESS) return 80;
    int best = 0;
    for (const int number : known) {
        if (number <= wanted && number > best) best = number;
    }
    return best == 0 ? 80 : best;
}

// What the compiler printed, behind a line break; empty if it printed nothing.
inline std::string compiler_log(nvrtcProgram program) {
    std::size_t size = 0;  // with the zero at the end
    if (nvrtcGetProgramLogSize(program, &size) != NVRTC_SUCCESS || size < 2) return {};
    std::string log(size, '\0');
    if (nvrtcGetProgramLog(program, &log[0]) != NVRTC_SUCCESS) return {};
    log.pop_back();
    return "\n" + log;
}

// Machine code of `source` for an architecture; for one that NVRTC does not know yet, PTX of the
// newest that it knows, which the driver translates.
inline Status compile(const char* source, int architecture, std::vector<char>& code) {
    int major = 0, minor = 0;
    Status status = compiler_status(nvrtcVersion(&major, &minor), "nvrtcVersion");
    if (!status) return status;
    if (major < 12) return Status::failure("NVRTC", "version 12 or newer is needed");
    const int known = known_architecture(architecture);
    const std::string target = std::string("--gpu-architecture=") +
                               (known == architecture ? "sm_" : "compute_") + std::to_string(known);
    const char* const options[] = {target.c_str(), "--std=c++17"};
    nvrtcProgram program = nullptr;
    status = compiler_status(
        nvrtcCreateProgram(&program, source, "kernels.cu", 0, nullptr, nullptr), "nvrtcCreateProgram");
    if (!status) return status;
    const nvrtcResult result = nvrtcCompileProgram(program, 2, options);
    if (result != NVRTC_SUCCESS) {
        const std::string why = nvrtcGetErrorString(result) + compiler_log(program);
        status = Status::failure("nvrtcCompileProgram", why.c_str());
    } else {
        std::size_t size = 0;
        if (known == architecture) {
            status = compiler_status(nvrtcGetCUBINSize(program, &size), "nvrtcGetCUBINSize");
            code.resize(size);
            if (status) status = compiler_status(nvrtcGetCUBIN(program, code.data()), "nvrtcGetCUBIN");
        } else {
            status = compiler_status(nvrtcGetPTXSize(program, &size), "nvrtcGetPTXSize");
            code.resize(size);
            if (status) status = compiler_status(nvrtcGetPTX(program, code.data()), "nvrtcGetPTX");
        }
    }
    nvrtcDestroyProgram(&program);
    return status;
}

// Machine code by architecture, compiled once per process.
class CompiledCode {
 public:
    static CompiledCode& instance() {
        static CompiledCode code;
        return code;
    }

    // Machine code that was made elsewhere.
    void put(int architecture, const char* code, std::size_t size) {
        const std::lock_guard<std::mutex> lock(mutex_);
        compiled_[architecture].assign(code, code + size);
    }

    Status get(int architecture, std::vector<char>& code) {
        const std::lock_guard<std::mutex> lock(mutex_);
        std::vector<char>& known = compiled_[architecture];
        Status status;
        if (known.empty()) status = compile(source().c_str(), architecture, known);
        if (!status) known.clear();
        code = known;
        return status;
    }

 private:
    std::mutex mutex_;
    std::map<int, std::vector<char>> compiled_;
};

// The loaded kernels of this module on one device.
class Kernels {
 public:
    Kernels() noexcept = default;
    Kernels(const Kernels&) = delete;
    Kernels& operator=(const Kernels&) = delete;
    ~Kernels() {
        if (module_ == nullptr) return;
        const CurrentContext current(device_.context());
        cuModuleUnload(module_);
    }

    Status open(int number) {
        Status status = device_.open(number);
        int architecture = 0;
        if (status) status = device_.architecture(architecture);
        if (!status) return status;
        const CurrentContext current(device_.context());
        if (!current.status()) return current.status();
        for (const Image& image : images) {
            // What this driver cannot translate is compiled below.
            if (image.text != nullptr && image.architecture <= architecture &&
                cuModuleLoadData(&module_, image.text().c_str()) == CUDA_SUCCESS) {
                return find();
            }
        }
        std::vector<char> code;
        status = CompiledCode::instance().get(architecture, code);
        if (status) {
            status = driver_status(cuModuleLoadData(&module_, code.data()), "cuModuleLoadData");
        }
        return status ? find() : status;
    }

    const Device& device() const noexcept { return device_; }
    CUfunction operator[](std::size_t number) const noexcept { return functions_[number]; }

 private:
    Status find() {
        for (std::size_t k = 0; k < kernel_count; ++k) {
            const Status status = driver_status(
                cuModuleGetFunction(&functions_[k], module_, kernel_names[k]), "cuModuleGetFunction",
                kernel_names[k]);
            if (!status) return status;
        }
        return {};
    }

    Device device_;
    CUmodule module_ = nullptr;
    CUfunction functions_[kernel_count + 1] = {};  // one more: there may be none
};

// The kernels on a device, shared by all workspaces there.
inline Status shared_kernels(int number, std::shared_ptr<Kernels>& kernels) {
    static std::mutex mutex;
    static std::map<int, std::weak_ptr<Kernels>> loaded;
    const std::lock_guard<std::mutex> lock(mutex);
    kernels = loaded[number].lock();
    if (kernels != nullptr) return {};
    kernels = std::make_shared<Kernels>();
    const Status status = kernels->open(number);
    if (status) {
        loaded[number] = kernels;
    } else {
        kernels.reset();
    }
    return status;
}

// Memory of a device, released at the end of its life.
class Memory {
 public:
    Memory() noexcept = default;
    Memory(const Memory&) = delete;
    Memory& operator=(const Memory&) = delete;
    ~Memory() {
        if (address_ != 0) cuMemFree(address_);
    }

    Status allocate(std::size_t nbytes) noexcept {
        if (nbytes == 0) return {};
        const CUresult result = cuMemAlloc(&address_, nbytes);
        if (result == CUDA_SUCCESS) return {};
        address_ = 0;
        char size[32];
        std::snprintf(size, sizeof(size), "%llu bytes", static_cast<unsigned long long>(nbytes));
        return driver_status(result, "cuMemAlloc", size);
    }

    CUdeviceptr address() const noexcept { return address_; }

 private:
    CUdeviceptr address_ = 0;
};

// One argument or result in the memory of the host.
struct HostArray {
    const void* input;
    void* output;
    std::size_t nbytes;
};

// What calls of one function at a time need: kernels, scratch memory, a stream, and copies of the
// arguments once there was a call with arrays of the host.
class State {
 public:
    State() noexcept = default;
    State(const State&) = delete;
    State& operator=(const State&) = delete;
    ~State() {
        if (kernels_ == nullptr) return;
        const CurrentContext current(kernels_->device().context());
        if (stream_ != nullptr) {
            cuStreamSynchronize(stream_);
            cuStreamDestroy(stream_);
        }
        copies_.reset();
        scratch_.reset();
    }

    Status open(int device, std::size_t nbytes) {
        Status status = shared_kernels(device, kernels_);
        if (!status) return status;
        const CurrentContext current(kernels_->device().context());
        if (!current.status()) return current.status();
        status = driver_status(cuStreamCreate(&stream_, CU_STREAM_NON_BLOCKING), "cuStreamCreate");
        if (!status) return status;
        scratch_ = std::make_unique<Memory>();
        return scratch_->allocate(nbytes);
    }

    CUstream stream() const noexcept { return stream_; }
    CUdeviceptr scratch() const noexcept { return scratch_->address(); }
    CUcontext context() const noexcept { return kernels_->device().context(); }
    const std::shared_ptr<Kernels>& kernels() const noexcept { return kernels_; }

    Status launch(std::size_t kernel, unsigned groups, unsigned threads, void** arguments,
                  CUstream stream) const noexcept {
        return driver_status(cuLaunchKernel((*kernels_)[kernel], groups, 1, 1, threads, 1, 1, 0,
                                            stream, arguments, nullptr),
                             "cuLaunchKernel", kernel_names[kernel]);
    }

    // Copies in, `run(addresses, stream)`, copies out; returns when all of it is done.
    template <std::size_t Count, typename Run>
    Status call(const HostArray (&arrays)[Count], Run run) noexcept {
        const CurrentContext current(context());
        if (!current.status()) return current.status();
        CUdeviceptr addresses[Count];
        std::size_t nbytes = 0;
        for (const HostArray& array : arrays) nbytes += padded(array.nbytes);
        if (copies_ == nullptr) {
            std::unique_ptr<Memory> copies(new (std::nothrow) Memory);
            if (copies == nullptr) return Status::failure("call", "no memory");
            const Status status = copies->allocate(nbytes);
            if (!status) return status;
            copies_ = std::move(copies);
        }
        CUdeviceptr place = copies_->address();
        Status status;
        for (std::size_t k = 0; k < Count; ++k) {
            addresses[k] = place;
            place += padded(arrays[k].nbytes);
            if (status && arrays[k].input != nullptr && arrays[k].nbytes != 0) {
                status = driver_status(cuMemcpyHtoDAsync(addresses[k], arrays[k].input,
                                                         arrays[k].nbytes, stream_),
                                       "cuMemcpyHtoDAsync");
            }
        }
        if (status) status = run(addresses, stream_);
        for (std::size_t k = 0; k < Count; ++k) {
            if (status && arrays[k].output != nullptr && arrays[k].nbytes != 0) {
                status = driver_status(cuMemcpyDtoHAsync(arrays[k].output, addresses[k],
                                                         arrays[k].nbytes, stream_),
                                       "cuMemcpyDtoHAsync");
            }
        }
        // Whatever was started has to end before the caller's arrays may go away.
        const Status ended = driver_status(cuStreamSynchronize(stream_), "cuStreamSynchronize");
        return status ? ended : status;
    }

 private:
    static constexpr std::size_t padded(std::size_t nbytes) noexcept {
        return (nbytes + 255) / 256 * 256;
    }

    std::shared_ptr<Kernels> kernels_;
    CUstream stream_ = nullptr;
    std::unique_ptr<Memory> scratch_;
    std::unique_ptr<Memory> copies_;
};

// Owns a State, or the reason why there is none. One per function and thread of the host.
class Workspace {
 public:
    Workspace() = default;

    Workspace(Workspace&& other) noexcept : state_(std::move(other.state_)), status_(other.status_) {
        other.free();
    }
    Workspace& operator=(Workspace&& other) noexcept {
        if (this == &other) return *this;
        state_ = std::move(other.state_);
        status_ = other.status_;
        other.free();
        return *this;
    }
    ~Workspace() = default;

    explicit operator bool() const noexcept { return state_ != nullptr; }
    const Status& status() const noexcept { return status_; }

    // Waits for the calls on its stream and releases everything; the destructor does the same.
    void free() noexcept {
        state_.reset();
        status_ = Status::failure("workspace", "not initialised");
    }

    // Calls of `call` run on this stream.
    CUstream stream() const noexcept { return state_ == nullptr ? nullptr : state_->stream(); }
    State& state() const noexcept { return *state_; }

    void open(int device, std::size_t nbytes) noexcept {
        try {
            auto state = std::make_unique<State>();
            status_ = state->open(device, nbytes);
            if (status_) state_ = std::move(state);
        } catch (const std::exception& error) {
            status_ = Status::failure("init_ws", error.what());
        }
    }

 private:
    std::unique_ptr<State> state_;
    Status status_ = Status::failure("workspace", "not initialised");
};

}  // namespace detail
