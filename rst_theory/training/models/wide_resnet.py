"""Wide residual networks, WRN-depth-width (Zagoruyko & Komodakis, arXiv 1605.07146)."""

from __future__ import annotations

from torch import Tensor, nn

from rst_theory.notation import DomainError, natural
from rst_theory.training.models.layers import classifier, convolution

__all__ = ["PreActivationBlock", "WideResNet"]


class PreActivationBlock(nn.Module):
    """y = s + W' * d(relu(N(W * a))), a = relu(N(x)), N = batch normalization, * = convolution, d = dropout.

    The shortcut s is x itself, or V * a with V of size 1 x 1 where the shape changes.

    Args:
        inputs: channels of x.
        outputs: channels of y.
        stride: of W (and V): y has sides ceil(side of x / stride).
        dropout: the probability that d drops a number.
    """

    def __init__(self, inputs: int, outputs: int, stride: int = 1, dropout: float = 0.0) -> None:
        super().__init__()
        self.activation = nn.Sequential(nn.BatchNorm2d(inputs), nn.ReLU())
        self.residual = nn.Sequential(
            convolution(inputs, outputs, 3, stride),
            nn.BatchNorm2d(outputs),
            nn.ReLU(),
            nn.Dropout(dropout),
            convolution(outputs, outputs, 3),
        )
        same_shape = inputs == outputs and stride == 1
        self.shortcut = None if same_shape else convolution(inputs, outputs, 1, stride)

    def forward(self, x: Tensor) -> Tensor:
        """(n, inputs, h, w) to (n, outputs, h / stride, w / stride), rounded up."""
        a = self.activation(x)
        s = x if self.shortcut is None else self.shortcut(a)
        y: Tensor = s + self.residual(a)
        return y


class WideResNet(nn.Sequential):
    """A stem of 16 channels, three stages of n blocks, and a classifier.

    WRN-28-10 has 36,479,194 weights for 3 channels and 10 classes (36.5 million in the paper).

    Args:
        shape: of an image, (channels, height, width); the second and the third stage halve the sides.
        classes: the number of outputs.
        depth: 6 n + 4 for n >= 1 blocks in each stage.
        width: the stages have 16, 32 and 64 times this many channels.
        dropout: the probability of dropping a number between the convolutions of a block (they use 0.3).

    Raises:
        TypeError: depth or width is not an integer.
        DomainError: an argument outside its domain.
    """

    def __init__(
        self,
        shape: tuple[int, int, int],
        classes: int,
        depth: int = 28,
        width: int = 10,
        dropout: float = 0.0,
    ) -> None:
        blocks, remainder = divmod(natural("depth", depth, least=10) - 4, 6)
        if remainder:
            raise DomainError("depth = 6 n + 4 for an integer n", depth)
        if not 0 <= dropout < 1:
            raise DomainError("0 <= dropout < 1", dropout)
        k = natural("width", width, least=1)

        def stage(inputs: int, outputs: int, stride: int) -> list[PreActivationBlock]:
            first = PreActivationBlock(inputs, outputs, stride, dropout)
            return [first] + [PreActivationBlock(outputs, outputs, 1, dropout) for _ in range(blocks - 1)]

        super().__init__(
            convolution(shape[0], 16, 3),
            *stage(16, 16 * k, stride=1),
            *stage(16 * k, 32 * k, stride=2),
            *stage(32 * k, 64 * k, stride=2),
            nn.BatchNorm2d(64 * k),
            nn.ReLU(),
            classifier(64 * k, classes),
        )
