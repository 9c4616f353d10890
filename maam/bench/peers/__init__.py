"""The same classifier in other inference engines and frameworks, beside MindSpore and this package's kernels.

    weights.py       the model as NumPy arrays, with batch normalisation folded for inference
    stored.py        writes images and weights to the file that every side reads
    onnx_model.py    the ONNX model in every form worth trying
    onnxruntime_side.py, openvino_side.py, torch_side.py   the other frameworks
    rows.py          which rows are measured, and their goals
    kernels.py       our kernels in one step: time and traffic, below the machine's limits
    run.py           measures all of it; report.py and plots.py write it down

`maam bench --peers` runs it. The other frameworks are an extra of the package (``pip install 'maam-ops[peers]'``), or
live in virtual environments of their own (``--python PEER=PATH``).
"""
