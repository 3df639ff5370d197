"""Text of complete modules: plain views in, files out. Knows neither JAX nor tinygrad.

Start reading at `views.py` (what a template may see), then `module.py` (how files are assembled).
"""
