"""Connectors: from vision features to soft tokens of the language model's width."""

from zoo.connectors.base import Connector, ConnectorConfig, ConnectorContext
from zoo.connectors.mlp import MLP, Linear
from zoo.connectors.qformer import QFormer

__all__ = ["MLP", "Connector", "ConnectorConfig", "ConnectorContext", "Linear", "QFormer"]
