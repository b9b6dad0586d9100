"""A synthetic world rendered from seeds: training samples, evaluation items and files in the public formats."""

from zoo.data.scenes.items import TASKS, answered, candidates, chance, items
from zoo.data.scenes.render import cell_labels, render_image, render_video
from zoo.data.scenes.source import SceneSource, text_sample
from zoo.data.scenes.words import description, vocabulary
from zoo.data.scenes.world import Scene, Thing, draw_scene

__all__ = [
    "TASKS",
    "Scene",
    "SceneSource",
    "Thing",
    "answered",
    "candidates",
    "cell_labels",
    "chance",
    "description",
    "draw_scene",
    "items",
    "render_image",
    "render_video",
    "text_sample",
    "vocabulary",
]
