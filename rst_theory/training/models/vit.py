"""A small vision transformer (Dosovitskiy et al., An image is worth 16 x 16 words, arXiv 2010.11929)."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from rst_theory.notation import DomainError, natural

__all__ = ["SelfAttention", "TransformerBlock", "ViT"]


class SelfAttention(nn.Module):
    """O [A_1 … A_h], A_i = softmax(Q_i K_i^T / sqrt(d)) V_i, d = width / heads.

    Q_i, K_i and V_i are affine functions of each token, of d numbers each; O is one of all heads together.

    Args:
        width: numbers in a token; a multiple of `heads`.
        heads: h.
    """

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.queries_keys_values = nn.Linear(width, 3 * width)
        self.output = nn.Linear(width, width)

    def forward(self, x: Tensor) -> Tensor:
        """(n, tokens, width) to the same."""
        split = self.queries_keys_values(x).unflatten(-1, (3, self.heads, -1))  # (n, tokens, 3, heads, d)
        Q, K, V = split.permute(2, 0, 3, 1, 4)  # each (n, heads, tokens, d)
        A = nn.functional.scaled_dot_product_attention(Q, K, V)
        out: Tensor = self.output(A.transpose(1, 2).flatten(2))
        return out


class TransformerBlock(nn.Module):
    """y = x + attention(N(x)), then y + perceptron(N(y)), N = layer normalization.

    Args:
        width: numbers in a token; the perceptron's hidden layer has four times as many.
        heads: of the attention.
    """

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.attention = nn.Sequential(nn.LayerNorm(width), SelfAttention(width, heads))
        self.perceptron = nn.Sequential(
            nn.LayerNorm(width), nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width)
        )

    def forward(self, x: Tensor) -> Tensor:
        """(n, tokens, width) to the same."""
        y = x + self.attention(x)
        out: Tensor = y + self.perceptron(y)
        return out


class ViT(nn.Module):
    """A token for each patch, plus what stands for its place; blocks; the mean token; a linear layer.

    The mean over tokens stands where the paper has an extra class token: simpler, no worse (their appendix
    D.3; Beyer et al., arXiv 2205.01580), and the number of tokens stays that of the patches.

    The blocks' linear layers begin as Glorot & Bengio say (AISTATS 2010), filters with variance 1 / inputs,
    their biases at 0. Places begin as large as what the filters make of an image, from N(0, 1): under a mean
    over tokens a network that hardly sees the places hardly sees the image.

    Args:
        shape: of an image, (channels, height, width).
        classes: the number of outputs.
        patch: the side of a patch; where it is left out 4, or 2 for images with a side of 8 or less.
        width: numbers in a token.
        depth: the number of blocks.
        heads: of each attention.

    Raises:
        TypeError: patch, width, depth or heads is not an integer.
        DomainError: one of them is under 1, a side is no multiple of the patch, or the width none of the
            heads.
    """

    def __init__(
        self,
        shape: tuple[int, int, int],
        classes: int,
        patch: int | None = None,
        width: int = 192,
        depth: int = 6,
        heads: int = 3,
    ) -> None:
        channels, height, breadth = shape
        side = natural("patch", (2 if min(height, breadth) <= 8 else 4) if patch is None else patch, least=1)
        if height % side or breadth % side:
            raise DomainError(f"height and width divisible by the patch size {side}", (height, breadth))
        if natural("width", width, least=1) % natural("heads", heads, least=1):
            raise DomainError(f"width divisible by the {heads} heads", width)
        super().__init__()
        self.patches = nn.Conv2d(channels, width, side, stride=side)
        self.places = nn.Parameter(torch.empty((height // side) * (breadth // side), width))
        self.blocks = nn.Sequential(
            *(TransformerBlock(width, heads) for _ in range(natural("depth", depth, least=1)))
        )
        self.norm = nn.LayerNorm(width)
        self.classifier = nn.Linear(width, classes)
        self._initialize()

    def _initialize(self) -> None:
        nn.init.normal_(self.places)
        nn.init.kaiming_normal_(self.patches.weight, nonlinearity="linear")
        nn.init.zeros_(self.patches.bias)  # type: ignore[arg-type]
        for layer in self.blocks.modules():
            if isinstance(layer, nn.Linear):
                nn.init.xavier_uniform_(layer.weight)
                nn.init.zeros_(layer.bias)

    def forward(self, images: Tensor) -> Tensor:
        """(n, channels, height, width) to (n, classes)."""
        tokens = self.patches(images).flatten(2).transpose(1, 2)  # (n, tokens, width)
        tokens = self.blocks(tokens + self.places)
        out: Tensor = self.classifier(self.norm(tokens).mean(dim=1))
        return out
