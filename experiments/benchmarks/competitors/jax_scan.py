"""JAX: one jit around a scan over the steps, batched over replicas, in float64.

Sharded by hand: each of two host devices runs half of the replicas, in blocks one after the other where a
block is given, so that the state of a block stays in cache. JAX must be told of the devices before it is
imported: by XLA_FLAGS=--xla_force_host_platform_device_count=2 in the environment.
"""

from __future__ import annotations

from functools import partial
from typing import Any

from experiments.benchmarks.work import SEGMENTS, Run, Work, measured

__all__ = ["prepare"]


def prepare(
    work: Work,
    devices: int = 1,
    block: int | None = None,
    generator: str = "threefry2x32",
    folded: bool = True,
) -> Run:
    """A compiled run.

    Args:
        work: whose replicas are a multiple of devices and, on each device, of the block.
        devices: that the replicas are shared out to.
        block: replicas that run side by side; by default all of a device.
        generator: of random numbers, as JAX names it.
        folded: whether the second gradient is folded into the first by hand, as only a quadratic allows;
            otherwise the gradient is a function that is called at two points.
    """
    import jax  # type: ignore[import-not-found,unused-ignore]
    from jax.sharding import (  # type: ignore[import-not-found,unused-ignore]
        Mesh,
        NamedSharding,
        PartitionSpec,
    )

    jax.config.update("jax_enable_x64", True)
    jax.config.update("jax_default_prng_impl", generator)
    share = work.replicas // devices
    side = block or share
    if share * devices != work.replicas or share % side:
        raise ValueError(
            f"{work.replicas} replicas do not divide into {devices} devices and blocks of {side}"
        )

    run_block = partial(_samples, work, side, folded)

    def one_device(keys: Any) -> Any:
        """The samples (POINTS, share, 3), from a key for each block."""
        samples = jax.lax.map(run_block, keys) if block else run_block(keys[0])
        return samples.swapaxes(0, 1).reshape(-1, share, 3) if block else samples

    run = one_device
    keys = jax.random.split(jax.random.key(work.seed), work.replicas // side)
    if devices > 1:
        mesh, shared = Mesh(jax.devices()[:devices], ("replicas",)), PartitionSpec("replicas")
        keys = jax.device_put(keys, NamedSharding(mesh, shared))
        run = jax.shard_map(
            one_device, mesh=mesh, in_specs=shared, out_specs=PartitionSpec(None, "replicas"), check_vma=False
        )
    compiled = jax.jit(run).lower(keys).compile()
    return lambda: measured(compiled(keys))


def _samples(work: Work, replicas: int, folded: bool, key: Any) -> Any:
    """The metrics of replicas side by side, (POINTS, replicas, 3)."""
    import jax
    import jax.numpy as jnp  # type: ignore[import-not-found,unused-ignore]

    lam, weights = jnp.asarray(work.eigenvalues), jnp.asarray(work.weights)

    def step(x: Any, key: Any) -> tuple[Any, None]:
        for_noise, for_coins = jax.random.split(key)
        noise = work.noise * jax.random.normal(for_noise, x.shape, dtype=x.dtype) if work.noise else 0.0
        g = lam * x + noise
        coin = jax.random.bernoulli(for_coins, work.p, (replicas, 1))
        if not folded:
            y = x + work.rho * g / jnp.linalg.norm(g, axis=1, keepdims=True)
            return x - work.eta * jnp.where(coin, lam * y + noise, g), None
        radius = jnp.where(coin, work.rho / jnp.linalg.norm(g, axis=1, keepdims=True), 0.0)
        return x - work.eta * (g + lam * (radius * g)), None

    def segment(x: Any, key: Any) -> tuple[Any, Any]:
        after, _ = jax.lax.scan(step, x, jax.random.split(key, work.segment))
        return after, (x * x) @ weights

    x = jnp.tile(jnp.asarray(work.start), (replicas, 1))
    x, along = jax.lax.scan(segment, x, jax.random.split(key, SEGMENTS))
    return jnp.concatenate([along, ((x * x) @ weights)[None]])
