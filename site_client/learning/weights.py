"""Between tensors and the safetensors files that travel: same tensors, same bytes."""

from collections.abc import Mapping

import safetensors.torch
from torch import Tensor, nn

from wardround.shared.checkpoint import Manifest, read_header
from wardround.shared.errors import CheckpointError

PROMPT_TENSOR = "prompt"


def pack(tensors: Mapping[str, Tensor]) -> bytes:
    """Return a safetensors file with `tensors`, in name order."""
    ordered = {name: tensors[name].detach().contiguous() for name in sorted(tensors)}
    return safetensors.torch.save(ordered)


def unpack(data: bytes) -> dict[str, Tensor]:
    """Return the tensors of a safetensors file.

    Raises:
        CheckpointError: It is not one.
    """
    try:
        return safetensors.torch.load(data)
    except (safetensors.SafetensorError, ValueError, KeyError) as error:
        raise CheckpointError(
            f"{len(data)} bytes are not a safetensors file: {error}. Fetch the checkpoint again."
        ) from error


def pack_network(network: nn.Module) -> bytes:
    """Return the network's weights as a safetensors file."""
    return pack(network.state_dict())


def fill_network(network: nn.Module, data: bytes) -> nn.Module:
    """Load the weights in `data` into `network`, in evaluation mode, and return it.

    Raises:
        CheckpointError: The tensors are not this network's.
    """
    try:
        network.load_state_dict(unpack(data))
    except RuntimeError as error:
        raise CheckpointError(
            f"a checkpoint does not fit this plan's {type(network).__name__}: "
            f"{str(error).splitlines()[0]} "
            f"Use the plan that the study was created with."
        ) from error
    return network.eval()


def manifest_of(
    parts: Mapping[str, bytes], prompt: bytes | None, labeller: bytes | None
) -> Manifest:
    """Return the manifest that checkpoints of `parts`, and site parts like those given, fit."""
    return Manifest(
        parts={name: read_header(data) for name, data in parts.items()},
        prompt=read_header(prompt) if prompt is not None else (),
        labeller=read_header(labeller) if labeller is not None else (),
    )
