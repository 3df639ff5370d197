// How a JIT library is called from Python without Python's or NumPy's headers.
//
// Everything the library needs of the interpreter arrives at load time in one `Interpreter` record
// (filled by anvil_jax/jit/interpreter.py, which first checks on live objects that the two layouts
// below are those of the running interpreter and of its NumPy). The library therefore has no
// undefined symbols and does not depend on the version of Python.

#include <cstddef>
#include <cstdint>
#include <new>

namespace {
namespace anvil_jit {

struct PyObject;  // opaque

// Same fields, same order as `Interpreter` in anvil_jax/jit/interpreter.py.
struct Interpreter {
    PyObject* (*vectorcall)(PyObject*, PyObject* const*, std::size_t, PyObject*);
    PyObject* (*new_function)(void*, PyObject*, PyObject*);
    PyObject* (*new_tuple)(std::ptrdiff_t);
    int (*set_tuple_item)(PyObject*, std::ptrdiff_t, PyObject*);
    double (*float_as_double)(PyObject*);
    PyObject* (*no_memory)();
    void* (*release_gil)();
    void (*acquire_gil)(void*);
    void (*add_reference)(PyObject*);
    void (*drop_reference)(PyObject*);
    // `flags` 0 and null strides: C order, owned data.
    PyObject* (*new_array)(void* type, PyObject* dtype, int ndim, const std::ptrdiff_t* shape,
                           const std::ptrdiff_t* strides, void* data, int flags, PyObject* base);
    PyObject* (*new_scalar)(const void* data, PyObject* dtype, PyObject* base);
    void* ndarray_type;
    void* float_type;
    void* float64_type;
    // The built-in dtype objects; an array of such a dtype nearly always refers to this very object.
    PyObject* dtype_float64;
    PyObject* dtype_float32;
    PyObject* dtype_int64;
    PyObject* dtype_int32;
    PyObject* dtype_int16;
    PyObject* dtype_int8;
    PyObject* dtype_uint64;
    PyObject* dtype_uint32;
    PyObject* dtype_uint16;
    PyObject* dtype_uint8;
    PyObject* dtype_bool;
};

// PyObject_HEAD followed by NumPy's PyArrayObject_fields.
struct ArrayObject {
    std::ptrdiff_t references;
    void* type;
    unsigned char* data;
    int ndim;
    std::ptrdiff_t* shape;
    std::ptrdiff_t* strides;
    PyObject* base;
    PyObject* dtype;
    int flags;
};

// CPython's PyMethodDef for a METH_FASTCALL | METH_KEYWORDS function.
struct MethodDefinition {
    const char* name;
    PyObject* (*function)(PyObject*, PyObject* const*, std::ptrdiff_t, PyObject*);
    int flags;
    const char* doc;
};
constexpr int method_fastcall_keywords = 0x80 | 0x02;
constexpr int array_c_contiguous_aligned = 0x1 | 0x100;

Interpreter python;  // written once, by the first anvil_jit_bind, under the GIL

// The data of `object` if it is exactly a NumPy array of this dtype and shape, C-contiguous and
// aligned; otherwise null. `Shape` empty means rank 0.
template <typename T, std::ptrdiff_t... Shape>
const T* array_data(PyObject* object, PyObject* dtype) noexcept {
    const auto* array = reinterpret_cast<const ArrayObject*>(object);
    if (array->type != python.ndarray_type || array->dtype != dtype) {
        return nullptr;
    }
    if (array->ndim != static_cast<int>(sizeof...(Shape)) ||
        (array->flags & array_c_contiguous_aligned) != array_c_contiguous_aligned) {
        return nullptr;
    }
    [[maybe_unused]] const std::ptrdiff_t* extent = array->shape;
    if (!((*extent++ == Shape) && ...)) {
        return nullptr;
    }
    return reinterpret_cast<const T*>(array->data);
}

// As `array_data` for one float64 of rank 0, which may also be a Python float or a numpy.float64;
// their value goes into `storage`. A template so that an unused one is silent.
template <typename T>
const T* scalar_data(PyObject* object, PyObject* dtype, T& storage) noexcept {
    const void* type = reinterpret_cast<const ArrayObject*>(object)->type;
    if (type == python.float_type || type == python.float64_type) {
        storage = python.float_as_double(object);
        return &storage;
    }
    return array_data<T>(object, dtype);
}

// One fresh result. `data()` is where `evaluate` writes; `take()` hands the Python object out. The
// object is dropped with the record unless it was taken.
template <typename T, std::ptrdiff_t... Shape>
class Result {
  public:
    explicit Result(PyObject* dtype) noexcept {
        constexpr std::ptrdiff_t shape[] = {Shape...};
        python.add_reference(dtype);  // new_array takes this reference
        object_ = python.new_array(python.ndarray_type, dtype, static_cast<int>(sizeof...(Shape)),
                                   shape, nullptr, nullptr, 0, nullptr);
    }
    Result(const Result&) = delete;
    Result& operator=(const Result&) = delete;
    ~Result() {
        if (object_ != nullptr) {
            python.drop_reference(object_);
        }
    }
    [[nodiscard]] bool is_ready() const noexcept { return object_ != nullptr; }
    [[nodiscard]] T* data() noexcept {
        return reinterpret_cast<T*>(reinterpret_cast<ArrayObject*>(object_)->data);
    }
    [[nodiscard]] PyObject* take() noexcept {
        PyObject* taken = object_;
        object_ = nullptr;
        return taken;
    }

  private:
    PyObject* object_ = nullptr;
};

// Rank 0 becomes a NumPy scalar, made after `evaluate` from a value on the stack.
template <typename T>
class Result<T> {
  public:
    explicit Result(PyObject* dtype) noexcept : dtype_(dtype) {}
    [[nodiscard]] bool is_ready() const noexcept { return true; }
    [[nodiscard]] T* data() noexcept { return &value_; }
    [[nodiscard]] PyObject* take() noexcept { return python.new_scalar(&value_, dtype_, nullptr); }

  private:
    PyObject* dtype_;
    T value_{};
};

// Without results there is an empty tuple, with one the result itself, else a tuple.
template <typename... Results>
PyObject* take_all(Results&... results) noexcept {
    if constexpr (sizeof...(Results) == 1) {
        return (results.take(), ...);
    } else {
        PyObject* tuple = python.new_tuple(static_cast<std::ptrdiff_t>(sizeof...(Results)));
        if (tuple == nullptr) {
            return nullptr;
        }
        [[maybe_unused]] std::ptrdiff_t position = 0;
        [[maybe_unused]] bool complete = true;
        [[maybe_unused]] const auto store = [&](PyObject* object) {
            complete = complete && object != nullptr;
            python.set_tuple_item(tuple, position++, object);
        };
        (store(results.take()), ...);
        if (!complete) {
            python.drop_reference(tuple);
            return nullptr;
        }
        return tuple;
    }
}

// Runs other Python threads while it lives, if `Releases`.
template <bool Releases>
class GilRelease {
  public:
    GilRelease() noexcept : state_(Releases ? python.release_gil() : nullptr) {}
    GilRelease(const GilRelease&) = delete;
    GilRelease& operator=(const GilRelease&) = delete;
    ~GilRelease() {
        if (Releases) {
            python.acquire_gil(state_);
        }
    }

  private:
    void* state_;
};

// A workspace on the heap, allocated at the first call in a thread and freed with the thread. `get`
// returns null when there is no memory. (Not a template over its size: g++ 12 then calls a destructor
// of the thread-local object that it has not emitted.)
class HeapWorkspace {
  public:
    HeapWorkspace() noexcept = default;
    HeapWorkspace(const HeapWorkspace&) = delete;
    HeapWorkspace& operator=(const HeapWorkspace&) = delete;
    ~HeapWorkspace() { ::operator delete(bytes_, alignment); }
    [[nodiscard]] unsigned char* get(std::size_t size) noexcept {
        if (bytes_ == nullptr) {
            bytes_ = static_cast<unsigned char*>(::operator new(size, alignment, std::nothrow));
        }
        return bytes_;
    }

  private:
    static constexpr std::align_val_t alignment{64};
    unsigned char* bytes_ = nullptr;
};

}  // namespace anvil_jit
}  // namespace
