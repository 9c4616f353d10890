"""The baselines MAAM is compared with: a small CNN, an MLP and an LSTM that reads the image row by row."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any

from mindspore import Tensor, nn

from ..errors import MaamError
from .config import check_known, check_positive


@dataclass(frozen=True)
class BaselineConfig:
    """Options of a baseline: input size and the width of its hidden layers."""

    hidden: int
    in_channels: int = 3
    image_size: int = 32

    def __post_init__(self) -> None:
        for field in fields(self):
            check_positive(field.name, getattr(self, field.name))

    def replace(self, **overrides: Any) -> BaselineConfig:
        """This configuration with some options changed; unknown names raise :class:`MaamError`."""
        check_known(self, overrides)
        values = {field.name: getattr(self, field.name) for field in fields(self)}
        return BaselineConfig(**{**values, **overrides})


class Cnn(nn.Cell):
    """Two conv3x3-ReLU-maxpool stages (32 and 64 channels) and two dense layers."""

    def __init__(self, config: BaselineConfig, num_classes: int) -> None:
        super().__init__()
        if config.image_size < 4:
            raise MaamError(f"create_model: preset 'cnn' needs image_size of at least 4, got {config.image_size}")
        self.features = nn.SequentialCell(
            nn.Conv2d(config.in_channels, 32, 3, pad_mode="pad", padding=1, has_bias=True),
            nn.ReLU(),
            nn.MaxPool2d(2, 2),
            nn.Conv2d(32, 64, 3, pad_mode="pad", padding=1, has_bias=True),
            nn.ReLU(),
            nn.MaxPool2d(2, 2),
        )
        self.classifier = nn.SequentialCell(
            nn.Flatten(),
            nn.Dense(64 * (config.image_size // 4) ** 2, config.hidden),
            nn.ReLU(),
            nn.Dense(config.hidden, num_classes),
        )

    def construct(self, x: Tensor) -> Tensor:
        return self.classifier(self.features(x))


class Mlp(nn.Cell):
    """Three dense layers on the flattened image, the second half as wide as the first."""

    def __init__(self, config: BaselineConfig, num_classes: int) -> None:
        super().__init__()
        half = max(config.hidden // 2, 1)
        self.classifier = nn.SequentialCell(
            nn.Flatten(),
            nn.Dense(config.in_channels * config.image_size**2, config.hidden),
            nn.ReLU(),
            nn.Dense(config.hidden, half),
            nn.ReLU(),
            nn.Dense(half, num_classes),
        )

    def construct(self, x: Tensor) -> Tensor:
        return self.classifier(x)


class Rnn(nn.Cell):
    """LSTM over the image rows, top to bottom; the last hidden state is classified."""

    def __init__(self, config: BaselineConfig, num_classes: int) -> None:
        super().__init__()
        self.lstm = nn.LSTM(config.in_channels * config.image_size, config.hidden, batch_first=True)
        self.classifier = nn.Dense(config.hidden, num_classes)

    def construct(self, x: Tensor) -> Tensor:
        batch, channels, height, width = x.shape
        rows = x.transpose(0, 2, 1, 3).reshape(batch, height, channels * width)
        states, _ = self.lstm(rows)
        return self.classifier(states[:, -1])


class PlainRnn(Rnn):
    """As :class:`Rnn`, with a tanh recurrence without gates in place of the LSTM."""

    def __init__(self, config: BaselineConfig, num_classes: int) -> None:
        super().__init__(config, num_classes)
        self.lstm = nn.RNN(config.in_channels * config.image_size, config.hidden, batch_first=True)


class SmallCnn(nn.Cell):
    """One conv3x3-ReLU-maxpool stage of 32 channels and one dense layer."""

    def __init__(self, config: BaselineConfig, num_classes: int) -> None:
        super().__init__()
        size = config.image_size // 2
        self.net = nn.SequentialCell(
            nn.Conv2d(config.in_channels, config.hidden, 3, pad_mode="pad", padding=1, has_bias=True),
            nn.ReLU(),
            nn.MaxPool2d(2, 2),
            nn.Flatten(),
            nn.Dense(config.hidden * size * size, num_classes),
        )

    def construct(self, x: Tensor) -> Tensor:
        return self.net(x)


BASELINES: dict[str, tuple[type[nn.Cell], BaselineConfig]] = {
    "cnn": (Cnn, BaselineConfig(hidden=128)),
    "mlp": (Mlp, BaselineConfig(hidden=512)),
    "rnn": (Rnn, BaselineConfig(hidden=128)),
    # Other readings of the paper's undefined baselines.
    "cnn-small": (SmallCnn, BaselineConfig(hidden=32)),
    "rnn-plain": (PlainRnn, BaselineConfig(hidden=128)),
}
