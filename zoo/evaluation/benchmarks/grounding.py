"""RefCOCO, RefCOCO+ and RefCOCOg comprehension; PointQA and Visual7W's pointing in Shikra's files."""

from collections.abc import Iterator

from zoo.errors import ZooError
from zoo.evaluation.benchmarks.benchmark import Benchmark, Prompt, Question
from zoo.evaluation.benchmarks.folder import Folder
from zoo.evaluation.benchmarks.prompts import GREEDY, LLAVA, SHIKRA, SHORT_SUFFIX, STATED
from zoo.evaluation.benchmarks.readers import box_of_corners, box_of_sizes, corners
from zoo.evaluation.entries import get_value, iterate_entries, load_plain_pickle

IMAGES = "train2014/|images/train2014/|images/"


def read_refcoco(folder: Folder) -> Iterator[Question]:
    """One question a sentence of the split; the box is that of its annotation."""
    instances = folder.path("instances")
    boxes = {
        get_value(entry, "id", int, where): box_of_sizes(entry.get("bbox"), where)
        for where, entry in iterate_entries(instances, "annotations")
    }
    names = {
        get_value(entry, "id", int, where): get_value(entry, "file_name", str, where)
        for where, entry in iterate_entries(instances, "images")
    }
    path = folder.path("refs")
    for number, ref in enumerate(load_plain_pickle(path)):
        where = f"{path}: ref {number}"
        if get_value(ref, "split", str, where) != folder.split:
            continue
        image_id, ann_id = get_value(ref, "image_id", int, where), get_value(ref, "ann_id", int, where)
        if image_id not in names or ann_id not in boxes:
            raise ZooError(f"{where}: image {image_id} or annotation {ann_id} is not in {instances}; use one release")
        for sentence in get_value(ref, "sentences", list, where):
            yield Question(
                key=str(get_value(sentence, "sent_id", int, where)),
                fields={"phrase": get_value(sentence, "sent", str, where)},
                media=(folder.image(names[image_id], where),),
                group=str(image_id),
                annotation=corners(boxes[ann_id]),
                boxes=(boxes[ann_id],),
            )


def read_pointqa_local(folder: Folder) -> Iterator[Question]:
    """PointQA-Local: a question about what is in a box."""
    yield from _pointqa(folder, "question")


def read_pointqa_twice(folder: Folder) -> Iterator[Question]:
    """PointQA-LookTwice: how many there are of what is in a box, in the general wording."""
    yield from _pointqa(folder, "general_question")


def _pointqa(folder: Folder, key: str) -> Iterator[Question]:
    for number, (where, entry) in enumerate(iterate_entries(folder.path("questions"), None)):
        name = get_value(entry, "file_path", str, where)
        answer = str(get_value(entry, "answer", (str, int), where))
        yield Question(
            key=str(number),
            fields={"question": get_value(entry, key, str, where), "region": "<box>"},
            media=(folder.image(name, where),),
            group=name,
            annotation={"answer": answer},
            answers=(answer,),
            regions=(box_of_corners(entry.get("bbox"), where),),
        )


def read_visual7w(folder: Folder) -> Iterator[Question]:
    """Visual7W's pointing: which of four boxes; the answer is a box."""
    for number, (where, entry) in enumerate(iterate_entries(folder.path("questions"), None)):
        name = get_value(entry, "file_path", str, where)
        right = box_of_corners(entry.get("answer"), where)
        candidates = [corners(box_of_corners(box, where)) for box in get_value(entry, "candidates", list, where)]
        if corners(right) not in candidates:
            raise ZooError(f"{where}: the answer {entry['answer']} is not among its candidates; use the published file")
        yield Question(
            key=str(number),
            fields={"question": get_value(entry, "question", str, where)},
            media=(folder.image(name, where),),
            group=name,
            annotation={"candidates": candidates, "answer": candidates.index(corners(right))},
            boxes=(right,),
        )


_EXPRESSION = {
    "llava": Prompt(
        text="Please provide the bounding box coordinate of the region this sentence describes: {phrase}",
        decoding=GREEDY,
        source=f"{LLAVA}; LLaVA-1.5's training mixture",
    ),
    "shikra": Prompt(
        text="Can you point out {phrase} in the image and provide the coordinates of its location?",
        decoding=GREEDY,
        source="Shikra, its demonstration (the image stands in front here)",
    ),
}


def _refcoco(name: str, title: str, folder: str, split_by: str, splits: tuple[str, ...]) -> Benchmark:
    return Benchmark(
        name=name,
        title=title,
        group="grounding",
        splits={
            split: {
                "refs": f"refs({split_by}).p|{folder}/refs({split_by}).p",
                "instances": f"instances.json|{folder}/instances.json",
                "images": IMAGES,
            }
            for split in splits
        },
        read=read_refcoco,
        prompts=_EXPRESSION,
        metric="iou:strict",
        source="Kazemzadeh et al. (2014), Yu et al. (2016), Mao et al. (2016); lichengunc/refer",
        notes=("right above IoU 0.5 in continuous pixels of the image; an answer without a box is wrong",),
    )


def _pointqa_benchmark(name: str, title: str, file: str, read: object, question: str) -> Benchmark:
    return Benchmark(
        name=name,
        title=title,
        group="grounding",
        splits={"test": {"questions": file, "images": "images/|VG_100K/"}},
        read=read,
        prompts={
            "llava": Prompt(text=question + SHORT_SUFFIX, decoding=GREEDY, processing=STATED, source=LLAVA),
            "shikra": Prompt(text=question, decoding=GREEDY, metric="pointqa:official", source=SHIKRA),
        },
        metric="exact_match:normalised",
        source="Mani et al. (2020), in Shikra's files",
        notes=("what is pointed at is given as its box",),
    )


BENCHMARKS = (
    _refcoco("refcoco", "RefCOCO comprehension", "refcoco", "unc", ("val", "testA", "testB")),
    _refcoco("refcoco+", "RefCOCO+ comprehension", "refcoco+", "unc", ("val", "testA", "testB")),
    _refcoco("refcocog", "RefCOCOg comprehension", "refcocog", "umd", ("val", "test")),
    _pointqa_benchmark(
        "pointqa_local", "PointQA-Local", "pointQA_local_test.jsonl", read_pointqa_local, "{question} {region}"
    ),
    _pointqa_benchmark(
        "pointqa_twice",
        "PointQA-LookTwice, general questions",
        "pointQA_twice_test.jsonl",
        read_pointqa_twice,
        "{question} {region}",
    ),
    Benchmark(
        name="visual7w_pointing",
        title="Visual7W pointing",
        group="grounding",
        splits={"test": {"questions": "v7w_pointing_test.jsonl", "images": "images/|visual7w/"}},
        read=read_visual7w,
        prompts={
            "llava": Prompt(
                text="{question} Please provide the bounding box coordinate of the region.",
                decoding=GREEDY,
                source="no published wording for models that answer with a box; LLaVA-1.5's for expressions",
            ),
            "shikra": Prompt(
                text="{question} Point out the answer with a box.",
                decoding=GREEDY,
                source="no published single wording; its templates are drawn",
            ),
        },
        metric="pointing:box",
        source="Zhu et al. (2016), in Shikra's files",
        notes=("the candidate that overlaps the answered box most",),
    ),
)
