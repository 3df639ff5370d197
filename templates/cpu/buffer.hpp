// A dense array in C order that somebody else owns: a pointer with static shape. `Buffer<double>`
// is a scalar. A Buffer of non-const elements converts to one of const elements.
template <typename T, std::size_t... Ns>
struct Buffer {
    using value_type = T;

    static constexpr std::size_t alignment = 64;
    static constexpr std::size_t ndim = sizeof...(Ns);
    static constexpr std::array<std::size_t, ndim> shape{Ns...};
    static constexpr std::size_t size = (std::size_t{1} * ... * Ns);
    static constexpr bool is_scalar = ndim == 0;
    static constexpr std::size_t nbytes = size * sizeof(T);

    T* data = nullptr;

    constexpr Buffer() noexcept = default;
    constexpr explicit Buffer(T* pointer) noexcept : data(pointer) {}
    template <typename U, typename = std::enable_if_t<std::is_same_v<const U, T>>>
    constexpr Buffer(const Buffer<U, Ns...>& other) noexcept : data(other.data) {}

    // New zeroed elements, to be released with free(); `data` is null if there is no memory, or no
    // element.
    [[nodiscard]] static auto alloc() noexcept {
        using Element = std::remove_const_t<T>;
        Buffer<Element, Ns...> buffer;
        if constexpr (size > 0) {
            void* const memory = ::operator new(nbytes, std::align_val_t{alignment}, std::nothrow);
            if (memory != nullptr) {
                buffer.data = static_cast<Element*>(memory);
                std::fill_n(buffer.data, size, Element{});
            }
        }
        return buffer;
    }

    // Releases what alloc() returned.
    void free() noexcept {
        ::operator delete(const_cast<std::remove_const_t<T>*>(data), std::align_val_t{alignment});
        data = nullptr;
    }
};
