"""By which statistics the normalisations of a fused Cell go: each decides for itself, as ``nn.BatchNorm2d`` does.

That is how layers are frozen: ``set_train(False)`` on a normalisation of a net in training, or
``use_batch_statistics``. Operators know one answer for all of theirs.
"""

from __future__ import annotations

from mindspore.ops.primitive import constexpr

BATCH, RUNNING, MIXED = "batch", "running", "mixed"


def by_batch(bn):
    """Whether a normalisation takes the statistics of the batch, and moves its own."""
    return bn.training if bn.use_batch_statistics is None else bn.use_batch_statistics


def flags_of(norms):
    """The same of each."""
    flags = ()
    for bn in norms:
        flags = (*flags, by_batch(bn))
    return flags


def statistics_of(norms):
    """BATCH or RUNNING where all go by the same, MIXED where they differ or there are none."""
    return _common(flags_of(norms))


@constexpr
def _common(flags):
    if len(set(flags)) != 1:
        return MIXED
    return BATCH if flags[0] else RUNNING
