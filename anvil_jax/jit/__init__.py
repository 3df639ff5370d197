"""From C++ text to a fast Python callable: compiler, cache, native call.

This room knows neither JAX nor tinygrad: a worker process that only calls compiled functions
imports nothing heavier than NumPy. Start reading at `library.py` (`NativeFunction`, what everybody
uses); `signature.py` makes Python values fit, `shim.py` renders the C++ end of the call,
`interpreter.py` checks what that end takes for granted, `cache.py` and `toolchain.py` turn text
into a shared library once per machine. `device_function.py` is the same call for graphics
processors.
"""
