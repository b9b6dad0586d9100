"""COCO, NoCaps and Flickr30k captions, and Visual Genome's captions of regions."""

from collections.abc import Iterator

from zoo.errors import ZooError
from zoo.evaluation.benchmarks.benchmark import Benchmark, Prompt, Question
from zoo.evaluation.benchmarks.folder import Folder
from zoo.evaluation.benchmarks.prompts import CAPTIONS, GREEDY
from zoo.evaluation.benchmarks.readers import box_of_sizes, captions_by_image
from zoo.evaluation.entries import get_value, iterate_entries
from zoo.evaluation.metrics.inputs import load

NOCAPS_DOMAINS = ("in-domain", "near-domain", "out-domain")
REGION = "<box>"


def read_karpathy(folder: Folder) -> Iterator[Question]:
    """The images of a split of Karpathy's file with their captions as written."""
    path = folder.path("annotations")
    for where, entry in iterate_entries(path, "images"):
        if get_value(entry, "split", str, where) != folder.split:
            continue
        captions = [get_value(one, "raw", str, where) for one in get_value(entry, "sentences", list, where)]
        name = "/".join(part for part in (entry.get("filepath", ""), get_value(entry, "filename", str, where)) if part)
        key = str(entry.get("cocoid", entry.get("imgid", name)))
        yield _captioned(folder, key, name, captions, where)


def read_nocaps(folder: Folder) -> Iterator[Question]:
    """NoCaps in COCO's format, all of it or one domain."""
    path = folder.path("annotations")
    captions = captions_by_image(iterate_entries(path, "annotations"))
    for where, entry in iterate_entries(path, "images"):
        if folder.split in NOCAPS_DOMAINS and get_value(entry, "domain", str, where) != folder.split:
            continue
        image_id = get_value(entry, "id", (int, str), where)
        if image_id not in captions:
            raise ZooError(f"{where}: image {image_id!r} has no caption among the annotations; use the val file")
        name = get_value(entry, "file_name", str, where)
        yield _captioned(folder, str(image_id), name, captions[image_id], where)


def _captioned(folder: Folder, key: str, name: str, captions: list[str], where: str) -> Question:
    if not captions:
        raise ZooError(f"{where}: no captions; every image needs at least one")
    return Question(
        key=key,
        fields={},
        media=(folder.image(name, where),),
        group=key,
        annotation=captions,
        answers=tuple(captions),
    )


def read_regions(folder: Folder) -> Iterator[Question]:
    """Visual Genome's region descriptions, of the images that the dense captioning split names."""
    chosen = None
    if "splits" in folder.places:
        found = load(folder.path("splits"))
        chosen = set(get_value(found, folder.split, list, str(folder.path("splits"))))
    for where, entry in iterate_entries(folder.path("regions"), None):
        image_id = get_value(entry, "id", int, where)
        if chosen is not None and image_id not in chosen:
            continue
        for region in get_value(entry, "regions", list, where):
            box = [get_value(region, key, (int, float), where) for key in ("x", "y", "width", "height")]
            # Some regions begin outside of the image.
            x, y = max(0, box[0]), max(0, box[1])
            phrase = get_value(region, "phrase", str, where)
            yield Question(
                key=str(get_value(region, "region_id", int, where)),
                fields={"region": REGION},
                media=(folder.image(f"{image_id}.jpg", where),),
                group=str(image_id),
                annotation=[phrase],
                answers=(phrase,),
                regions=(box_of_sizes([x, y, box[0] + box[2] - x, box[1] + box[3] - y], where),),
            )


def _karpathy(name: str, title: str, file: str, images: str, source: str) -> Benchmark:
    return Benchmark(
        name=name,
        title=title,
        group="captions",
        splits={split: {"annotations": file, "images": images} for split in ("test", "val", "train")},
        read=read_karpathy,
        prompts=CAPTIONS,
        metric="captions:ptb",
        train="train",
        source=source,
        notes=("CIDEr is printed as pycocoevalcap does, papers print it times 100",),
    )


BENCHMARKS = (
    _karpathy(
        "coco_captions",
        "COCO captions, Karpathy's split",
        "dataset_coco.json",
        "images/|./",
        "Chen et al. (2015); Karpathy and Fei-Fei (2015)",
    ),
    _karpathy(
        "flickr30k",
        "Flickr30k captions, Karpathy's split",
        "dataset_flickr30k.json",
        "flickr30k-images/|flickr30k_images/|images/",
        "Young et al. (2014); Karpathy and Fei-Fei (2015)",
    ),
    Benchmark(
        name="nocaps",
        title="NoCaps val",
        group="captions",
        splits={
            split: {"annotations": "nocaps_val_4500_captions.json", "images": "val/|images/"}
            for split in ("val", *NOCAPS_DOMAINS)
        },
        read=read_nocaps,
        prompts=CAPTIONS,
        metric="captions:ptb",
        source="Agrawal et al. (2019)",
        notes=("a domain is scored with the document frequencies of its own captions",),
    ),
    Benchmark(
        name="vg_regions",
        title="Visual Genome region captions",
        group="captions",
        splits={
            split: {
                "regions": "region_descriptions.json",
                "splits": "densecap_splits.json",
                "images": "images/|VG_100K/",
            }
            for split in ("test", "val", "train")
        }
        | {"all": {"regions": "region_descriptions.json", "images": "images/|VG_100K/"}},
        read=read_regions,
        prompts={
            "llava": Prompt(
                text="Please provide a short description for this region: {region}",
                decoding=GREEDY,
                source="LLaVA-1.5's training mixture",
            ),
            "shikra": Prompt(
                text="For the given image, can you provide a unique description of the area {region}?",
                decoding=GREEDY,
                source="Shikra, its demonstration (the image stands in front here)",
            ),
        },
        metric="captions:ptb",
        train="train",
        source="Krishna et al. (2017); Johnson et al. (2016) for the split",
        notes=("?metric=meteor:java where Java and pycocoevalcap are installed",),
    ),
)
