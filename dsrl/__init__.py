"""Dual Super-Resolution Learning for Semantic Segmentation (Wang et al., CVPR 2020)."""

__version__ = "0.1.0"
