"""What torch.func.vmap refuses."""

__all__ = ["is_vmap_error"]

_WORDS = ("vmap", "functorch", "setup_context")


def is_vmap_error(error: RuntimeError) -> bool:
    """Whether a network has an operation that :obj:`torch.func.vmap` does not support."""
    return any(word in str(error) for word in _WORDS)
