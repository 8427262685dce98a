"""The `native` backend: C++ kernels for inference on the CPU."""
