"""Network architectures, pretrained weights and output heads."""

from stages.networks.network_config import NetworkConfig
from stages.networks.network_registry import NETWORKS, Architecture, architecture, build

__all__ = ["NETWORKS", "Architecture", "NetworkConfig", "architecture", "build"]
