"""The CUDA kernels against PyTorch, Triton and cuDNN: `make cuda && python -m benchmarks.cuda`. Needs torch alone."""
