"""Networks: standard architectures first."""

from stages.networks.blueprint import Blueprint
from stages.networks.registry import NETWORKS, Architecture, architecture, build

__all__ = ["NETWORKS", "Architecture", "Blueprint", "architecture", "build"]
