"""Sizes of any foundation, from what its card says; without torch, for whoever plans."""

from collections.abc import Mapping
from typing import Any, ClassVar, Protocol, Self, runtime_checkable

from moe_pipeline.model.config import FoundationConfig, Work
from moe_pipeline.model.geometry import FoundationGeometry
from moe_pipeline.model.segvol.config import SegVolConfig


@runtime_checkable
class NetworkSizes(Protocol):
    """What the sizes of every kind of network can tell."""

    network: ClassVar[str]
    """Kind of network; stands in the JSON form, but for the first kind, whose cards are older than the word."""

    @property
    def geometry(self) -> FoundationGeometry:
        """Crop, tokens and low-resolution voxels."""

    @property
    def embedding_channels(self) -> int:
        """Channels of an embedding, those included that only a decoder reads."""

    @property
    def work(self) -> Work:
        """What computing with it takes, compared with others of its kind."""

    def to_dict(self) -> dict[str, Any]:
        """JSON form."""

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        """Read the JSON form; raises ValueError."""


NETWORKS: dict[str, type[NetworkSizes]] = {kind.network: kind for kind in (FoundationConfig, SegVolConfig)}
"""Kinds of network by the word in their cards. `weights.load` builds them."""


def read_sizes(values: Mapping[str, Any]) -> NetworkSizes:
    """Sizes from the JSON form of any kind of network.

    Raises:
        ValueError: if the kind is unknown, or the sizes are invalid.
    """
    network = dict(values).get("network", FoundationConfig.network)
    if network not in NETWORKS:
        raise ValueError(f"no kind of network {network!r}; there are: {', '.join(NETWORKS)}")
    return NETWORKS[network].from_dict(values)
