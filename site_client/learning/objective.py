"""What a network is trained to make small: its own objective where it has one, else segmentation's.

A method asks for the loss of what a network said of a batch, and need not know what the network
does: how it learns is independent of the task.
"""

from typing import Protocol, runtime_checkable

from torch import Tensor, nn

from wardround.site_client.learning.pool import Batch
from wardround.site_client.learning.segmenter import segmentation_loss


@runtime_checkable
class HasObjective(Protocol):
    """A network that is trained by a loss of its own."""

    def objective(self, said_BKX: Tensor, batch: Batch) -> Tensor:
        """Return the loss, a scalar, of what the network said of the batch's images."""
        ...


def loss_on(network: nn.Module, said_BKX: Tensor, batch: Batch) -> Tensor:
    """Return the loss of what `network` said of a batch, a scalar to differentiate.

    Args:
        network: Whose objective counts; its weights are not used.
        said_BKX: What it said of `batch.images_BCX`.
        batch: Images and targets.
    """
    if isinstance(network, HasObjective):
        return network.objective(said_BKX, batch)
    return segmentation_loss(said_BKX, batch.targets_BKX)
