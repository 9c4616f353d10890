"""The elementwise part of reduce in the TBE DSL, ReLU(Z scale + shift) by channel, for ``func_type="tbe"`` on Ascend.

The convolution before it is CANN's own. scale = gamma / sqrt(var + eps) and shift = beta - mean scale are small
float32 tensors on the device, broadcast along the channel axis.
"""

from __future__ import annotations

from mindspore.ops import CustomRegOp, DataType, custom_info_register
from tbe import dsl

from maam_ops.ascend._tbe import build, check_operands, check_parameter, check_same_shape, narrow, reshaped, widen

_REDUCE = (
    CustomRegOp("scale_shift_relu_tbe")
    .input(0, "z", "required")
    .input(1, "scale", "required")
    .input(2, "shift", "required")
    .output(0, "f", "required")
    .dtype_format(DataType.F16_Default, DataType.F32_Default, DataType.F32_Default, DataType.F16_Default)
    .dtype_format(DataType.F32_Default, DataType.F32_Default, DataType.F32_Default, DataType.F32_Default)
    .target("Ascend")
    .get_op_info()
)


@custom_info_register(_REDUCE)
def scale_shift_relu_tbe(z, scale, shift, f, kernel_name="scale_shift_relu_tbe"):
    """f = relu(z * scale + shift) of z (B, C, H, W) and vectors (C,); C must be known when the kernel is built."""
    op = "scale_shift_relu_tbe"
    check_same_shape(op, {"z": z, "f": f})
    dtype = check_operands(op, {"z": z, "f": f})
    if len(z["shape"]) != 4 or z["shape"][1] < 1:
        raise RuntimeError(f"{op}: z: got shape {tuple(z['shape'])}, expected (B, C, H, W) with a static C")
    channels = z["shape"][1]
    for name, vector in (("scale", scale), ("shift", shift)):
        check_parameter(op, name, vector, (channels,))
    vectors = [reshaped(vector, (1, channels, 1, 1)) for vector in (scale, shift)]

    def compute(z_tensor, scale_tensor, shift_tensor):
        scaled = dsl.vmul(widen(z_tensor), dsl.broadcast(scale_tensor, z_tensor.shape))
        shifted = dsl.vadd(scaled, dsl.broadcast(shift_tensor, z_tensor.shape))
        return [narrow(dsl.vrelu(shifted), dtype)]

    build(kernel_name, [z, *vectors], compute)
