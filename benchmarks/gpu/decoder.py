"""A decoder of Llama's shape with random weights: the arithmetic of serving, not its answers.

Written with PyTorch's own operators only. Attention is `scaled_dot_product_attention`; in decode
the query heads that share a KV head stand in for query positions, so that KV is read once.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from heteroscale.performance.models import GroupedAttention, ModelShape

EPSILON = 1e-5
ROPE_BASE = 500_000.0


@dataclass(frozen=True, slots=True)
class Layer:
    """Weights of one layer; matrices as (outputs, inputs)."""

    qkv: Any
    out: Any
    gate_up: Any
    down: Any
    norm_in: Any
    norm_post: Any


@dataclass(frozen=True, slots=True)
class Cache:
    """Keys and values of a decode batch: per layer (batch, KV heads, context, head width)."""

    keys: list[Any]
    values: list[Any]


class Decoder:
    """A model on one device. `torch` is handed in: this file can be read without it."""

    def __init__(
        self, torch: Any, shape: ModelShape, *, intermediate: int, device: str, dtype: Any
    ) -> None:
        """Make random weights.

        Args:
            shape: with grouped attention.
            intermediate: inner width of the feed-forward part.
            dtype: of weights, activations and KV.
        """
        if not isinstance(shape.attention, GroupedAttention):
            raise TypeError("the decoder knows grouped attention only")
        self._torch = torch
        self.shape = shape
        self.attention: GroupedAttention = shape.attention
        self._place = {"device": device, "dtype": dtype}
        heads, kv, width = self.attention.heads, self.attention.kv_heads, self.attention.head_dim
        hidden = shape.hidden
        self.layers = [
            Layer(
                qkv=self._weights((heads + 2 * kv) * width, hidden),
                out=self._weights(hidden, heads * width),
                gate_up=self._weights(2 * intermediate, hidden),
                down=self._weights(hidden, intermediate),
                norm_in=torch.ones(hidden, **self._place),
                norm_post=torch.ones(hidden, **self._place),
            )
            for _ in range(shape.layers)
        ]
        self._norm = torch.ones(hidden, **self._place)
        self._embedding = self._weights(shape.vocabulary, hidden)
        self._head = self._weights(shape.vocabulary, hidden)

    def _weights(self, outputs: int, inputs: int) -> Any:
        # Small enough that 32 layers of products stay finite in bf16.
        return self._torch.randn(outputs, inputs, **self._place) * inputs**-0.5

    def cache(self, batch: int, context: int) -> Cache:
        """Return KV of random content."""
        size = (batch, self.attention.kv_heads, context, self.attention.head_dim)
        keys = [self._torch.randn(size, **self._place) for _ in self.layers]
        return Cache(keys, [self._torch.randn(size, **self._place) for _ in self.layers])

    def rope(self, first: int, count: int) -> tuple[Any, Any]:
        """Return cosine and sine of `count` positions from `first` on."""
        torch, width = self._torch, self.attention.head_dim
        steps = torch.arange(0, width, 2, device=self._place["device"], dtype=torch.float32)
        positions = torch.arange(
            first, first + count, device=self._place["device"], dtype=torch.float32
        )
        angles = torch.outer(positions, ROPE_BASE ** (-steps / width))
        both = torch.cat((angles, angles), dim=-1)
        return both.cos().to(self._place["dtype"]), both.sin().to(self._place["dtype"])

    def prefill(self, tokens: Any, rope: tuple[Any, Any], cache: Cache | None = None) -> Any:
        """Return the next token of each prompt.

        Args:
            tokens: (batch, length).
            cache: receives keys and values of the prompt's positions; None = they are dropped.
        """
        functional = self._torch.nn.functional
        x = functional.embedding(tokens, self._embedding)
        length = tokens.shape[1]
        for place, layer in enumerate(self.layers):
            q, k, v = self._qkv(x, layer, rope)
            if cache is not None:
                cache.keys[place][:, :, :length] = k
                cache.values[place][:, :, :length] = v
            mixed = functional.scaled_dot_product_attention(
                q, k, v, is_causal=True, enable_gqa=True
            )
            x = self._after(x, mixed.transpose(1, 2).flatten(2), layer)
        return self._next(x[:, -1])

    def decode(self, tokens: Any, rope: tuple[Any, Any], cache: Cache) -> Any:
        """Return the next token of each sequence; its KV goes to the last place of the cache.

        Args:
            tokens: (batch, 1).
            rope: of one position.
        """
        functional, attention = self._torch.nn.functional, self.attention
        batch, groups = tokens.shape[0], attention.heads // attention.kv_heads
        x = functional.embedding(tokens, self._embedding)
        for layer, keys, values in zip(self.layers, cache.keys, cache.values, strict=True):
            q, k, v = self._qkv(x, layer, rope)
            keys[:, :, -1:] = k
            values[:, :, -1:] = v
            grouped = q.view(batch, attention.kv_heads, groups, attention.head_dim)
            mixed = functional.scaled_dot_product_attention(grouped, keys, values)
            x = self._after(x, mixed.reshape(batch, 1, -1), layer)
        return self._next(x[:, -1])

    def _qkv(self, x: Any, layer: Layer, rope: tuple[Any, Any]) -> tuple[Any, Any, Any]:
        """Return queries, keys and values as (batch, heads, length, width), rotated."""
        attention = self.attention
        batch, length = x.shape[:2]
        mixed = self._torch.nn.functional.linear(self._normed(x, layer.norm_in), layer.qkv)
        heads = mixed.view(batch, length, -1, attention.head_dim).transpose(1, 2)
        sizes = (attention.heads, attention.kv_heads, attention.kv_heads)
        q, k, v = heads.split(sizes, dim=1)
        return self._rotated(q, rope), self._rotated(k, rope), v

    def _rotated(self, x: Any, rope: tuple[Any, Any]) -> Any:
        cosine, sine = rope
        first, second = x.chunk(2, dim=-1)
        return x * cosine + self._torch.cat((-second, first), dim=-1) * sine

    def _after(self, x: Any, mixed: Any, layer: Layer) -> Any:
        """Return the residual stream after attention's output and the feed-forward part."""
        functional = self._torch.nn.functional
        x = x + functional.linear(mixed, layer.out)
        gate, up = functional.linear(self._normed(x, layer.norm_post), layer.gate_up).chunk(2, -1)
        return x + functional.linear(functional.silu(gate) * up, layer.down)

    def _normed(self, x: Any, weight: Any) -> Any:
        return self._torch.nn.functional.rms_norm(x, (self.shape.hidden,), weight, EPSILON)

    def _next(self, x: Any) -> Any:
        """Return the likeliest token; the logits are computed for the last position only."""
        logits = self._torch.nn.functional.linear(self._normed(x, self._norm), self._head)
        return logits.argmax(dim=-1, keepdim=True)
