// What a call came to: true if it went well, otherwise `text` says what failed.
class Status {
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

// An array in memory of the device: from `offset` bytes on in a buffer. The offset is a multiple of
// the size of an element. Without automatic reference counting it does not own the buffer.
struct DeviceBuffer {
    id<MTLBuffer> buffer = nil;
    NSUInteger offset = 0;
};

namespace detail {

inline Status error_status(const char* what, NSError* error) noexcept {
    const char* text = error == nil ? nullptr : error.localizedDescription.UTF8String;
    return Status::failure(what, text == nullptr ? "unknown error" : text);
}

// Owns an object of Objective-C, with automatic reference counting or without.
template <typename Object>
class Owned {
 public:
    Owned() noexcept = default;
    Owned(const Owned&) = delete;
    Owned& operator=(const Owned&) = delete;
    ~Owned() { adopt(nil); }

    // Takes over a reference that the caller owns: what `new...` and `alloc` return.
    void adopt(Object object) noexcept {
#if !__has_feature(objc_arc)
        [object_ release];
#endif
        object_ = object;
    }

    // Takes a reference of its own.
    void share(Object object) noexcept {
#if !__has_feature(objc_arc)
        [object retain];
#endif
        adopt(object);
    }

    Object get() const noexcept { return object_; }

 private:
    Object object_ = nil;
};

// Infinities and numbers that are none must stay what they are.
inline void forbid_fast_math(MTLCompileOptions* options) noexcept {
#if (defined(__MAC_OS_X_VERSION_MAX_ALLOWED) && __MAC_OS_X_VERSION_MAX_ALLOWED >= 150000) || \
    (defined(__IPHONE_OS_VERSION_MAX_ALLOWED) && __IPHONE_OS_VERSION_MAX_ALLOWED >= 180000)
    if (@available(macOS 15.0, iOS 18.0, *)) {
        options.mathMode = MTLMathModeSafe;
        return;
    }
#endif
#pragma clang diagnostic push
#pragma clang diagnostic ignored "-Wdeprecated-declarations"
    options.fastMathEnabled = NO;
#pragma clang diagnostic pop
}

// The compiled kernels of this module on one device.
class Kernels {
 public:
    Status open(id<MTLDevice> device) {
        const std::string text = source();
        Owned<NSString*> code;
        code.adopt([[NSString alloc] initWithBytes:text.data()
                                            length:text.size()
                                          encoding:NSUTF8StringEncoding]);
        Owned<MTLCompileOptions*> options;
        options.adopt([[MTLCompileOptions alloc] init]);
        if (code.get() == nil || options.get() == nil) {
            return Status::failure("newLibraryWithSource", "no memory");
        }
        forbid_fast_math(options.get());
        NSError* error = nil;
        Owned<id<MTLLibrary>> library;
        library.adopt([device newLibraryWithSource:code.get() options:options.get() error:&error]);
        if (library.get() == nil) return error_status("newLibraryWithSource", error);
        for (std::size_t k = 0; k < kernel_count; ++k) {
            Owned<id<MTLFunction>> function;
            NSString* const name = [NSString stringWithUTF8String:kernel_names[k]];
            if (name != nil) function.adopt([library.get() newFunctionWithName:name]);
            if (function.get() == nil) {
                return Status::failure(kernel_names[k], "not found in the compiled library");
            }
            error = nil;
            states_[k].adopt([device newComputePipelineStateWithFunction:function.get()
                                                                   error:&error]);
            if (states_[k].get() == nil) return error_status(kernel_names[k], error);
        }
        return {};
    }

    id<MTLComputePipelineState> operator[](std::size_t number) const noexcept {
        return states_[number].get();
    }

 private:
    Owned<id<MTLComputePipelineState>> states_[kernel_count + 1];  // one more: there may be none
};

// The kernels on a device, compiled once in the life of the process.
inline Status shared_kernels(id<MTLDevice> device, std::shared_ptr<const Kernels>& kernels) {
    static std::mutex mutex;
    // Never destroyed: at the end of the process Metal may be gone already.
    static auto& compiled = *new std::map<std::uint64_t, std::shared_ptr<const Kernels>>;
    const std::lock_guard<std::mutex> lock(mutex);
    const auto found = compiled.find(device.registryID);
    if (found != compiled.end()) {
        kernels = found->second;
        return {};
    }
    const auto made = std::make_shared<Kernels>();
    const Status status = made->open(device);
    if (status) kernels = compiled[device.registryID] = made;
    return status;
}

// Commits what `encode(encoder)` encodes to a new command buffer; waits for its end if asked to.
template <typename Encode>
Status commit(id<MTLCommandQueue> queue, bool waits, Encode encode) noexcept {
    if (queue == nil) return Status::failure("commandBuffer", "the queue is nil");
    @autoreleasepool {
        id<MTLCommandBuffer> commands = [queue commandBuffer];
        if (commands == nil) return Status::failure("commandBuffer", "the queue gives none");
        id<MTLComputeCommandEncoder> encoder = [commands computeCommandEncoder];
        if (encoder == nil) return Status::failure("computeCommandEncoder", "the buffer gives none");
        const Status status = encode(encoder);
        [encoder endEncoding];
        if (!status) return status;
        [commands commit];
        if (!waits) return {};
        [commands waitUntilCompleted];
        if (commands.status == MTLCommandBufferStatusCompleted) return {};
        return error_status("command buffer", commands.error);
    }
}

// One argument or result in the memory of the device, or the scratch memory.
struct Place {
    const char* name;
    DeviceBuffer memory;
    std::size_t nbytes;
    std::size_t element;

    Status check() const noexcept {
        if (nbytes == 0) return {};
        if (memory.buffer == nil) return Status::failure(name, "there is no buffer");
        if (memory.offset % element != 0) {
            return Status::failure(name, "the offset is no multiple of the size of an element");
        }
        const NSUInteger length = memory.buffer.length;
        if (memory.offset > length || length - memory.offset < nbytes) {
            return Status::failure(name, "the array ends behind the end of its buffer");
        }
        return {};
    }
};

// One argument or result in the memory of the host.
struct HostArray {
    const void* input;
    void* output;
    std::size_t nbytes;
};

// What calls of one function at a time need: kernels, scratch memory, a queue, and copies of the
// arguments once there was a call with arrays of the host.
class State {
 public:
    Status open(id<MTLDevice> device, std::size_t nbytes) {
        @autoreleasepool {
            if (device == nil) {
                device_.adopt(MTLCreateSystemDefaultDevice());
            } else {
                device_.share(device);
            }
            if (device_.get() == nil) {
                return Status::failure("MTLCreateSystemDefaultDevice", "no device for Metal");
            }
            const Status status = shared_kernels(device_.get(), kernels_);
            if (!status) return status;
            queue_.adopt([device_.get() newCommandQueue]);
            if (queue_.get() == nil) return Status::failure("newCommandQueue", "no queue");
            nbytes_ = nbytes;
            return allocate(scratch_, nbytes, MTLResourceStorageModePrivate);
        }
    }

    id<MTLCommandQueue> queue() const noexcept { return queue_.get(); }
    Place scratch() const noexcept { return {"workspace", {scratch_.get(), 0}, nbytes_, 1}; }

    template <std::size_t Count>
    Status check(const Place (&places)[Count],
                 id<MTLComputeCommandEncoder> encoder) const noexcept {
        if (encoder == nil) return Status::failure("encode", "the encoder is nil");
        for (const Place& place : places) {
            const Status status = place.check();
            if (!status) return status;
        }
        return {};
    }

    // The arguments of a kernel are some of the places, by number, then counters of loops.
    Status launch(std::size_t kernel, NSUInteger groups, NSUInteger threads, const Place* places,
                  std::initializer_list<std::size_t> numbers, std::initializer_list<int> counters,
                  id<MTLComputeCommandEncoder> encoder) const noexcept {
        id<MTLComputePipelineState> state = (*kernels_)[kernel];
        if (threads > state.maxTotalThreadsPerThreadgroup) {
            return Status::failure(kernel_names[kernel],
                                   "too many threads in a group for this device");
        }
        [encoder setComputePipelineState:state];
        NSUInteger index = 0;
        for (const std::size_t number : numbers) {
            const DeviceBuffer& memory = places[number].memory;
            [encoder setBuffer:memory.buffer offset:memory.offset atIndex:index++];
        }
        for (const int& counter : counters) {
            [encoder setBytes:&counter length:sizeof(counter) atIndex:index++];
        }
        [encoder dispatchThreadgroups:MTLSizeMake(groups, 1, 1)
                threadsPerThreadgroup:MTLSizeMake(threads, 1, 1)];
        return {};
    }

    // Copies in, `run(buffers, encoder)`, copies out; returns when all of it is done.
    template <std::size_t Count, typename Run>
    Status call(const HostArray (&arrays)[Count], Run run) noexcept {
        std::size_t nbytes = 0;
        for (const HostArray& array : arrays) nbytes += padded(array.nbytes);
        if (copies_.get() == nil) {
            const Status status = allocate(copies_, nbytes, MTLResourceStorageModeShared);
            if (!status) return status;
        }
        unsigned char* const memory = nbytes == 0 ? nullptr : contents();
        DeviceBuffer buffers[Count];
        NSUInteger offset = 0;
        for (std::size_t k = 0; k < Count; ++k) {
            const HostArray& array = arrays[k];
            buffers[k] = {copies_.get(), offset};
            if (array.input != nullptr && array.nbytes != 0) {
                std::memcpy(memory + offset, array.input, array.nbytes);
            }
            offset += padded(array.nbytes);
        }
        const Status status = commit(queue(), true, [&](id<MTLComputeCommandEncoder> encoder) {
            return run(buffers, encoder);
        });
        if (!status) return status;
        for (std::size_t k = 0; k < Count; ++k) {
            const HostArray& array = arrays[k];
            if (array.output != nullptr && array.nbytes != 0) {
                std::memcpy(array.output, memory + buffers[k].offset, array.nbytes);
            }
        }
        return {};
    }

 private:
    // Offsets of 256 bytes are right for every kind of memory.
    static constexpr std::size_t padded(std::size_t nbytes) noexcept {
        return (nbytes + 255) / 256 * 256;
    }

    unsigned char* contents() const noexcept {
        return static_cast<unsigned char*>([copies_.get() contents]);
    }

    Status allocate(Owned<id<MTLBuffer>>& buffer, std::size_t nbytes,
                    MTLResourceOptions options) noexcept {
        if (nbytes == 0) return {};
        buffer.adopt([device_.get() newBufferWithLength:nbytes options:options]);
        if (buffer.get() != nil) return {};
        char what[64];
        std::snprintf(what, sizeof(what), "newBufferWithLength of %llu bytes",
                      static_cast<unsigned long long>(nbytes));
        return Status::failure(what, "no memory");
    }

    Owned<id<MTLDevice>> device_;
    std::shared_ptr<const Kernels> kernels_;
    Owned<id<MTLCommandQueue>> queue_;
    Owned<id<MTLBuffer>> scratch_;
    Owned<id<MTLBuffer>> copies_;
    std::size_t nbytes_ = 0;
};

// Owns a State, or the reason why there is none. One per function and thread of the host.
class Workspace {
 public:
    Workspace() = default;

    explicit operator bool() const noexcept { return state_ != nullptr && status_; }
    const Status& status() const noexcept { return status_; }

    // Releases everything; what was committed before still ends. The destructor does the same.
    void free() noexcept {
        state_.reset();
        status_ = Status::failure("workspace", "not initialised");
    }

    // Calls of `call` run on this queue.
    id<MTLCommandQueue> queue() const noexcept {
        return state_ == nullptr ? nil : state_->queue();
    }
    State& state() const noexcept { return *state_; }

    void open(id<MTLDevice> device, std::size_t nbytes) noexcept {
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
