"""The base class of the data sets whose clouds lie in memory."""

from __future__ import annotations

from torch_geometric.data import Data, InMemoryDataset


class InMemoryClouds(InMemoryDataset):
    """A data set that hands out copies of its clouds.

    PyG's own hands out views: a transform that writes into them would change the set, every time
    it is read, and the arrays that it shares with the caller.
    """

    def get(self, idx: int) -> Data:
        """A copy of the cloud, into which a transform may write."""
        return super().get(idx).clone()
