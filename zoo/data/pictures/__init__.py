"""Samples and questions from the pictures and clips of ``zoo assets``: real captions, kinds, boxes and names."""

from zoo.data.pictures.items import PICTURE_TASKS, picture_chance, picture_items
from zoo.data.pictures.source import PICTURES, PictureSource

__all__ = ["PICTURES", "PICTURE_TASKS", "PictureSource", "picture_chance", "picture_items"]
