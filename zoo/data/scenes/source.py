"""Training samples of the synthetic world: conversations, captions, regions and videos, made from a seed on demand."""

from collections.abc import Mapping, Sequence

from zoo.data.sample import Box, Medium, Message, Sample
from zoo.data.scenes import words as language
from zoo.data.scenes.draw import Draw
from zoo.data.scenes.questions import MAKERS, PLANNERS, Maker, Question, Told
from zoo.data.scenes.render import check_image_size, image_source, thing_box, video_source
from zoo.data.scenes.videos import MAX_FRAMES, MIN_FRAMES, NUM_MOVERS, VIDEO_MAKERS, draw_video
from zoo.data.scenes.world import UNSEEN_EVERY, Scene, draw_scene, split_number, try_scene
from zoo.errors import ZooError, nearest

INSTRUCT_TASKS = ("existence", "colour", "shape", "count", "comparison", "spatial")
PROBE_TASKS = ("probe_random", "probe_popular", "probe_adversarial")
REGION_TASKS = ("region_describe", "region_colour", "region_shape", "region_locate")
VIDEO_TASKS = tuple(VIDEO_MAKERS)
KIND_TASKS = {"instruct": INSTRUCT_TASKS, "region": REGION_TASKS, "video": VIDEO_TASKS}
KINDS = ("instruct", "caption", "region", "video", "video_caption", "mixture")
# The place of a name is part of every seed: append, never reorder.
STREAMS = (*KINDS, "text", "items", "popular", "support", "files")
MIXTURE = {"instruct": 4.0, "caption": 2.0, "region": 2.0, "video": 2.0}
# How often an opening question needs no plan: all objects counted, two sizes compared.
UNPLANNED = {"count": 1 / 5, "comparison": 1 / 3}
ATTEMPTS_PER_QUESTION = 4
VIDEO_TEXT_SHARE = 0.15
CAPTION_TEXT_SHARE = 0.25


class SceneSource:
    """Map-style training data: sample i is the same on every machine, in every process, whatever was read before.

    ``kind`` is instruct (questions of several types on one image), caption, region (boxes in and out), video,
    video_caption, or mixture (of those, by ``weights``: the share of samples of each kind). ``tasks`` restricts the
    question types. Tasks of regions or videos named under instruct make it a mixture of their kinds, each weighted by
    the number of its tasks unless ``weights`` says otherwise; a sample holds questions of one kind. A conversation has
    up to ``questions_per_scene`` turns; fewer where a further question would be given away by the earlier ones.
    Every fourth scene of the test split holds an unseen pair: ``sample.info["unseen"]``.
    """

    def __init__(
        self,
        split: str,
        kind: str = "instruct",
        num_samples: int = 1000,
        seed: int = 0,
        image_size: int = 64,
        questions_per_scene: int = 6,
        num_frames: int = 4,
        tasks: Sequence[str] | None = None,
        weights: Mapping[str, float] | None = None,
    ) -> None:
        split_number(split)
        if kind not in KINDS:
            raise ZooError(f"scenes: unknown kind {kind!r}.{nearest(kind, KINDS)}")
        self.kind_tasks = dict(KIND_TASKS)
        if tasks is not None:
            self.kind_tasks |= _tasks_by_kind(kind, tasks)
            named = {name: len(chosen) for name, chosen in self.kind_tasks.items() if set(chosen) & set(tasks)}
            if kind == "instruct" and set(named) != {"instruct"}:
                kind, weights = "mixture", weights or named
        if weights is not None and kind != "mixture":
            raise ZooError(f"scenes: kind {kind!r} takes no weights; use kind mixture or name tasks of several kinds")
        if questions_per_scene < 1 or num_samples < 0:
            given = f"questions_per_scene {questions_per_scene}, num_samples {num_samples}"
            raise ZooError(f"scenes: {given} must be at least 1 and 0")
        self.split, self.kind, self.num_samples, self.seed = split, kind, num_samples, seed
        self.image_size, self.num_frames = check_image_size(image_size), check_num_frames(num_frames)
        self.questions_per_scene = questions_per_scene
        self.weights = dict(weights or MIXTURE)
        unknown = [name for name in self.weights if name not in KINDS or name == "mixture"]
        if unknown or min(self.weights.values()) < 0 or sum(self.weights.values()) <= 0:
            raise ZooError(f"scenes: mixture weights {self.weights} need kinds of {KINDS[:-1]} and a positive sum")

    def __len__(self) -> int:
        return self.num_samples

    def __getitem__(self, index: int) -> Sample:
        if not 0 <= index < self.num_samples:
            raise IndexError(index)
        kind = self.kind
        if kind == "mixture":
            draw = Draw(*stream_key("mixture", self.split, self.seed), index)
            kind = pick_weighted(draw, self.weights)
        draw = Draw(*stream_key(kind, self.split, self.seed), index)
        name = f"scenes/{self.split}/{kind}/{self.seed}/{index}"
        unseen = unseen_block(self.split, index)
        if kind in KIND_TASKS:
            make_scene = video_scene if kind == "video" else image_scene
            scene, questions = make_scene(draw, name, unseen, self.kind_tasks[kind], self.questions_per_scene)
            return self._sample(scene, question_turns(questions), questions)
        make = draw_video if kind == "video_caption" else draw_scene
        scene = make(draw, name, unseen=unseen)
        return self._sample(scene, [caption_turn(scene, draw)])

    def _sample(self, scene: Scene, turns: list[tuple[str, str]], questions: Sequence[Question] = ()) -> Sample:
        medium = scene_medium(scene, self.image_size, self.num_frames)
        return Sample(
            id=scene.name,
            messages=turn_messages(turns, f"<{medium.kind}>\n"),
            media=(medium,),
            boxes=tuple(box for question in questions for box in question_boxes(scene, question, self.image_size)),
            group=scene.name,
            info={"unseen": scene.unseen, "tasks": tuple(question.task for question in questions)},
        )


def _tasks_by_kind(kind: str, tasks: Sequence[str]) -> dict[str, tuple[str, ...]]:
    """The given tasks by the kind that they belong to. Raises ZooError for one that ``kind`` does not have."""
    allowed = KIND_TASKS if kind in ("instruct", "mixture") else {kind: KIND_TASKS.get(kind, ())}
    known = [task for names in allowed.values() for task in names]
    wrong = [task for task in tasks if task not in known]
    if wrong or not tasks:
        raise ZooError(f"scenes: kind {kind!r} has no task {(wrong or ['(none given)'])[0]!r}; choose from {known}")
    chosen = {name: tuple(task for task in tasks if task in names) for name, names in allowed.items()}
    return {name: names for name, names in chosen.items() if names}


def text_sample(
    split: str, index: int, seed: int = 0, questions_per_scene: int = 6, tasks: Sequence[str] = INSTRUCT_TASKS
) -> Sample:
    """A conversation without media: the first turn states the facts of a scene, the questions are about these facts.

    A quarter ask for the caption instead, and some tell of a video's events. A language model that has learnt it takes
    its answers from what stands in its context, which is what visual tokens will be.
    """
    draw = Draw(*stream_key("text", split, seed), index)
    name = f"scenes/{split}/text/{seed}/{index}"
    video = draw.coin(VIDEO_TEXT_SHARE)
    caption = draw.coin(CAPTION_TEXT_SHARE)
    unseen = unseen_block(split, index)
    if video:
        scene, questions = video_scene(draw, name, unseen, VIDEO_TASKS, questions_per_scene)
    else:
        scene, questions = image_scene(draw, name, unseen, tasks, questions_per_scene)
    turns = [caption_turn(scene, draw)] if caption else question_turns(questions)
    return Sample(
        id=name,
        messages=turn_messages(turns, f"{language.facts(scene, draw)}\n"),
        group=name,
        info={"unseen": scene.unseen, "tasks": () if caption else tuple(question.task for question in questions)},
    )


def stream_key(stream: str, split: str, seed: int) -> tuple[int, int, int]:
    """The first part of a Draw's key; streams and splits never share a scene."""
    return seed, split_number(split), STREAMS.index(stream)


def unseen_block(split: str, block: int) -> bool:
    """Whether this scene (or block of items) holds an unseen pair: every fourth of the test split does."""
    return split == "test" and block % UNSEEN_EVERY == UNSEEN_EVERY - 1


def check_num_frames(num_frames: int) -> int:
    """The number itself, or ZooError outside the range in which every event shows."""
    if not MIN_FRAMES <= num_frames <= MAX_FRAMES:
        raise ZooError(f"scenes: num_frames {num_frames} is out of range; use {MIN_FRAMES} to {MAX_FRAMES}")
    return num_frames


def pick_weighted(draw: Draw, weights: Mapping[str, float]) -> str:
    """A key with probability proportional to its weight."""
    rest = draw.uniform(0.0, sum(weights.values()))
    for name, weight in weights.items():
        if rest < weight:
            return name
        rest -= weight
    return next(name for name in reversed(weights) if weights[name] > 0)


def image_scene(draw: Draw, name: str, unseen: bool, tasks: Sequence[str], limit: int) -> tuple[Scene, list[Question]]:
    """A scene with 1 to ``limit`` questions: the opening task is drawn first, and scenes until one lets it be asked.

    Counting is for openings only: asked where nothing else can be, it would find few objects more often than many.
    """
    makers = [MAKERS[task] for task in tasks if task != "count"]
    opening = draw.choice(tasks)
    planned = opening in PLANNERS and not draw.coin(UNPLANNED[opening])
    while True:
        if planned:
            scene, maker = planned_scene(draw, name, unseen, opening)
        else:
            scene, maker = draw_scene(draw, name, unseen=unseen), MAKERS[opening]
        questions = converse(scene, draw, makers, limit, maker)
        if questions:
            return scene, questions


def planned_scene(draw: Draw, name: str, unseen: bool, task: str) -> tuple[Scene, Maker]:
    """A scene built for one question of a task with plans, and the maker of that question."""
    while True:
        plan, maker = PLANNERS[task](draw)
        scene = try_scene(draw, name, unseen, plan)
        if scene is not None:
            return scene, maker


def video_scene(draw: Draw, name: str, unseen: bool, tasks: Sequence[str], limit: int) -> tuple[Scene, list[Question]]:
    """A video with 1 to ``limit`` questions; counting is for openings only, as for images."""
    makers = [VIDEO_MAKERS[task] for task in tasks if task != "event_count"]
    opening = draw.choice(tasks)
    appear = opening == "event_order" and draw.coin()
    while True:
        scene = draw_video(draw, name, unseen=unseen, movers=draw.between(*NUM_MOVERS[opening]), appear=appear)
        questions = converse(scene, draw, makers, limit, VIDEO_MAKERS[opening])
        if questions:
            return scene, questions


def converse(scene: Scene, draw: Draw, makers: Sequence[Maker], limit: int, opening: Maker) -> list[Question]:
    """Questions of which none gives away the answer of another; an empty list where the opening cannot be asked."""
    told = Told()
    first = opening(scene, draw, told)
    if first is None:
        return []
    told.add(first)
    questions = [first]
    for _ in range(limit * ATTEMPTS_PER_QUESTION if makers else 0):
        if len(questions) == limit:
            break
        question = draw.choice(makers)(scene, draw, told)
        if question is not None and told.allows(question):
            told.add(question)
            questions.append(question)
    return questions


def question_turns(questions: Sequence[Question]) -> list[tuple[str, str]]:
    """(user, assistant) texts."""
    return [(question.text, question.answer) for question in questions]


def question_boxes(scene: Scene, question: Question, image_size: int) -> list[Box]:
    """The boxes behind a question's placeholders and then the one behind its answer's, in pixels."""
    indices = [*question.boxes, *([] if question.answer_box is None else [question.answer_box])]
    return [thing_box(scene.things[index], image_size) for index in indices]


def caption_turn(scene: Scene, draw: Draw) -> tuple[str, str]:
    """An instruction to describe the image or video and one of its captions."""
    if scene.motions:
        return draw.choice(language.INSTRUCTIONS["video"]), language.video_caption(scene)
    detail = draw.choice(("full", "short"))
    return draw.choice(language.INSTRUCTIONS[detail]), draw.choice(language.captions(scene, detail))


def turn_messages(turns: Sequence[tuple[str, str]], opening: str) -> tuple[Message, ...]:
    """Alternating messages; ``opening`` goes before the first question."""
    messages = []
    for number, (user, assistant) in enumerate(turns):
        messages.append(Message(role="user", content=user if number else opening + user))
        messages.append(Message(role="assistant", content=assistant))
    return tuple(messages)


def scene_medium(scene: Scene, image_size: int, num_frames: int) -> Medium:
    """The scene as an image or a video, rendered when its source is called. The name tells sizes apart for caches."""
    if scene.motions:
        name = f"{scene.name}@{image_size}x{num_frames}"
        return Medium(kind="video", source=video_source(scene, image_size, num_frames), name=name)
    return Medium(kind="image", source=image_source(scene, image_size), name=f"{scene.name}@{image_size}")
