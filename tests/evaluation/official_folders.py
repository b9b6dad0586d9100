"""Tiny folders in the official formats of the benchmarks, with the answers that are right and wrong by their metric.

Every writer returns ``{key: (right answer, wrong answer)}`` in the wording that a model would give.
"""

import base64
import io
import json
import pickle

from PIL import Image

SIZE = (64, 48)


def picture():
    file = io.BytesIO()
    Image.new("RGB", SIZE, (200, 30, 30)).save(file, "PNG")
    return file.getvalue()


def put(path, value):
    path.parent.mkdir(parents=True, exist_ok=True)
    if isinstance(value, bytes):
        path.write_bytes(value)
    else:
        path.write_text(value if isinstance(value, str) else json.dumps(value))
    return path


def lines(entries):
    return "".join(json.dumps(entry) + "\n" for entry in entries)


def vqa_answers(common, other):
    texts = [common] * 7 + [other] * 3
    return [{"answer": text, "answer_confidence": "yes", "answer_id": at} for at, text in enumerate(texts, 1)]


def vqa(questions_file, annotations_file, split="val"):
    def write(root):
        questions, annotations, said = [], [], {}
        for at in (1, 2, 3):
            put(root / f"{split}2014" / f"COCO_{split}2014_{at:012d}.jpg", picture())
            common = {"question_id": 10 * at, "image_id": at}
            questions.append({**common, "question": f"What is number {at}?"})
            note = {"question_type": "what is", "answer_type": "other", "multiple_choice_answer": "a dog"}
            annotations.append({**common, **note, "answers": vqa_answers("a dog", "puppy")})
            said[str(10 * at)] = ("Dog.", "cat")
        put(root / questions_file, {"info": {}, "questions": questions})
        put(root / annotations_file, {"info": {}, "annotations": annotations})
        return said

    return write


def vizwiz(root):
    put(root / "val" / "VizWiz_val_00000000.jpg", picture())
    answers = [{"answer": text, "answer_confidence": "yes"} for text in ["soda"] * 6 + ["can"] * 4]
    entry = {"image": "VizWiz_val_00000000.jpg", "question": "What is this?", "answers": answers}
    put(root / "val.json", [{**entry, "answer_type": "other", "answerable": 1}])
    return {"VizWiz_val_00000000.jpg": ("Soda", "unanswerable")}


def textvqa(root):
    put(root / "train_images" / "abc.jpg", picture())
    entry = {"question_id": 34602, "image_id": "abc", "question": "What brand?", "answers": ["nokia"] * 10}
    put(root / "TextVQA_0.5.1_val.json", {"data": [{**entry, "ocr_tokens": ["NOKIA", "E7"], "image_width": 64}]})
    return {"34602": ("Nokia", "sony")}


def gqa(root):
    put(root / "images" / "n1.jpg", picture())
    entry = {"imageId": "n1", "isBalanced": True, "fullAnswer": "Yes."}
    questions = {
        "201": {**entry, "question": "Is it red?", "answer": "yes", "types": {"structural": "verify"}},
        "202": {**entry, "question": "What is it?", "answer": "dog", "types": {"structural": "query"}},
    }
    put(root / "testdev_balanced_questions.json", questions)
    return {"201": ("Yes.", "no"), "202": ("Dog", "cat")}


def pope(prefix, folder):
    def write(root):
        said = {}
        put(root / folder / "a.jpg", picture())
        for category in ("random", "popular", "adversarial"):
            entries = [
                {"question_id": at, "image": "a.jpg", "text": f"Is there a {thing} in the image?", "label": label}
                for at, (thing, label) in enumerate((("dog", "yes"), ("cat", "no")), 1)
            ]
            # COCO's files are lines, the others arrays.
            put(root / f"{prefix}_pope_{category}.json", lines(entries) if prefix == "coco" else entries)
            said |= {f"{category}/1": ("Yes, there is.", "No"), f"{category}/2": ("No, none.", "Yes")}
        return said

    return write


MME = (
    "existence", "count", "position", "color", "posters", "celebrity", "scene", "landmark", "artwork", "OCR",
    "commonsense_reasoning", "numerical_calculation", "text_translation", "code_reasoning",
)  # fmt: skip


def mme(root):
    said = {}
    for subtask in MME:
        put(root / subtask / "1.jpg", picture())
        asked = [f"1.jpg\tIs there a {thing}? Please answer yes or no.\t{label}" for thing, label in
                 (("dog", "Yes"), ("cat", "No"))]  # fmt: skip
        put(root / f"{subtask}.txt", "\n".join(asked) + "\n")
        said |= {f"{subtask}/1": ("Yes", "No"), f"{subtask}/2": ("No", "Yes")}
    return said


def scienceqa(root):
    problem = {"question": "Which?", "choices": ["iron", "wood"], "answer": 1, "hint": "Look.", "image": "image.png"}
    more = {"task": "closed choice", "grade": "grade3", "subject": "natural science", "split": "test"}
    problems = {"7": {**problem, **more}, "8": {**problem, **more, "image": None}}
    put(root / "problems.json", problems)
    put(root / "pid_splits.json", {"train": [], "val": [], "test": ["7", "8"]})
    put(root / "test" / "7" / "image.png", picture())
    return {"7": ("B", "A")}


def mmbench(file):
    def write(root):
        columns = [
            "index",
            "question",
            "hint",
            "A",
            "B",
            "C",
            "D",
            "answer",
            "category",
            "l2-category",
            "split",
            "image",
        ]
        image = base64.b64encode(picture()).decode()
        row = ["3", "Which colour?", "", "red", "blue", "green", "", "A", "colour", "perception", "dev", image]
        put(root / file, "\t".join(columns) + "\n" + "\t".join(row) + "\n")
        return {"3": ("A", "B"), "1000003": ("C", "A"), "2000003": ("B", "A")}

    return write


def seed(likelihood):
    def write(root):
        choices = {"choice_a": "one", "choice_b": "two", "choice_c": "three", "choice_d": "four"}
        entry = {"question_id": "101", "question_type_id": 1, "data_type": "image", "data_id": "x.jpg", "answer": "C"}
        video = {**entry, "question_id": "102", "data_type": "video", "question_type_id": 10, "segment": [1, 2]}
        asked = [{**one, "question": "How many?", **choices} for one in (entry, video)]
        types = {"Scene Understanding": 1, "Action Recognition": 10}
        put(root / "SEED-Bench.json", {"questions": asked, "question_type": types})
        put(root / "SEED-Bench-image" / "x.jpg", picture())
        return {"101": ("three", "one") if likelihood else ("C", "A")}

    return write


def mmvp(root):
    rows = ["Index,Question,Options,Correct Answer"]
    said = {}
    for at, (letter, other) in enumerate((("a", "B"), ("b", "A")), 1):
        rows.append(f'{at},Is it open?,"(a) Yes, it is (b) No",({letter})')
        put(root / "MMVP Images" / f"{at}.jpg", picture())
        said[str(at)] = (letter.upper(), other)
    put(root / "Questions.csv", "\n".join(rows) + "\n")
    return said


CAPTIONS = {1: ["a red dog runs", "the dog is running"], 2: ["two cats sleep", "cats on a bed"]}


def karpathy(file, folder):
    def write(root):
        images = []
        for at, texts in CAPTIONS.items():
            name = f"{at}.jpg"
            put(root / folder / "val2014" / name, picture())
            sentences = [{"raw": text, "tokens": text.split()} for text in texts]
            images.append(
                {"filename": name, "filepath": "val2014", "cocoid": at, "split": "test", "sentences": sentences}
            )
        images.append({**images[0], "cocoid": 9, "split": "restval"})
        put(root / file, {"images": images, "dataset": "coco"})
        return {str(at): (texts[0], "something else entirely") for at, texts in CAPTIONS.items()}

    return write


def nocaps(root):
    images, annotations = [], []
    for at, texts in CAPTIONS.items():
        images.append({"id": at, "file_name": f"{at}.jpg", "domain": "near-domain"})
        annotations += [{"id": 10 * at, "image_id": at, "caption": text} for text in texts]
        put(root / "val" / f"{at}.jpg", picture())
    put(root / "nocaps_val_4500_captions.json", {"images": images, "annotations": annotations})
    return {str(at): (texts[0], "something else entirely") for at, texts in CAPTIONS.items()}


def regions(root):
    boxes = {"x": -1, "y": 4, "width": 20, "height": 20}
    entries = []
    for at, texts in CAPTIONS.items():
        entries.append({"id": at, "regions": [{"region_id": 50 + at, "image_id": at, "phrase": texts[0], **boxes}]})
        put(root / "VG_100K" / f"{at}.jpg", picture())
    put(root / "region_descriptions.json", [*entries, {"id": 3, "regions": []}])
    put(root / "densecap_splits.json", {"train": [3], "val": [], "test": [1, 2]})
    return {str(50 + at): (texts[0], "something else entirely") for at, texts in CAPTIONS.items()}


def box_text(*corners):
    """LLaVA-1.5's: fractions of the image padded to a square of 64 by 64, eight rows above."""
    x0, y0, x1, y1 = corners
    return f"[{x0 / 64:.4f}, {(y0 + 8) / 64:.4f}, {x1 / 64:.4f}, {(y1 + 8) / 64:.4f}]"


def refcoco(split_by):
    def write(root):
        ref = {"ref_id": 3, "ann_id": 11, "category_id": 1, "image_id": 42, "file_name": "x_11.jpg", "sent_ids": [5, 6]}
        sentences = [
            {"sent_id": at, "sent": text, "raw": text, "tokens": text.split()} for at, text in ((5, "left"), (6, "red"))
        ]
        refs = [{**ref, "split": "val", "sentences": sentences}, {**ref, "split": "train", "sentences": sentences}]
        put(root / f"refs({split_by}).p", pickle.dumps(refs, protocol=2))
        image = {"id": 42, "file_name": "COCO_train2014_000000000042.jpg", "width": 64, "height": 48}
        put(root / "train2014" / image["file_name"], picture())
        put(root / "instances.json", {"images": [image], "annotations": [{"id": 11, "bbox": [10, 10, 20, 20]}]})
        return {key: (box_text(10, 10, 30, 30), "no idea") for key in ("5", "6")}

    return write


def pointqa(file):
    def write(root):
        put(root / "images" / "a.jpg", picture())
        questions = {
            "question": "What colour is this shirt?",
            "obj_question": "How many shirts?",
            "super_question": "How many clothes?",
            "general_question": "How many of these?",
        }
        entry = {"file_path": "a.jpg", **questions, "answer": "red", "bbox": [1, 2, 30, 40], "point": [5, 6]}
        put(root / file, lines([entry]))
        return {"0": ("The answer is red .", "blue")}

    return write


def visual7w(root):
    put(root / "images" / "a.jpg", picture())
    boxes = [[0, 0, 10, 10], [20, 0, 30, 10], [0, 20, 10, 30], [20, 20, 30, 30]]
    entry = {"file_path": "a.jpg", "question": "Which one barks?", "candidates": boxes, "answer": boxes[3]}
    put(root / "v7w_pointing_test.jsonl", lines([{**entry, "point": [25, 25]}]))
    return {"0": (box_text(19, 19, 30, 30), box_text(0, 0, 10, 10))}


def frames(folder):
    for at in range(6):
        put(folder / f"{at:05d}.png", picture())


def msvd(root):
    frames(root / "video" / "abc_1_5")
    put(root / "youtube_mapping.txt", "abc_1_5 vid1\n")
    entry = {"id": 3, "video_id": 1, "question": "what runs?", "answer": "dog", "category_id": 0}
    put(root / "test_qa.json", [entry])
    return {"3": ("a dog", "cat")}


def msrvtt(root):
    frames(root / "video" / "video7010")
    entry = {"id": 4, "video_id": 7010, "question": "what runs?", "answer": "dog", "category_id": 0}
    put(root / "test_qa.json", [entry])
    return {"4": ("Dog.", "cat")}


def activitynet(root):
    frames(root / "videos" / "v_xyz")
    questions = [{"video_name": "xyz", "question": "does it move", "question_id": f"v_xyz_{at}"} for at in (1, 2)]
    put(root / "test_q.json", questions)
    answers = [{"answer": "yes", "type": kind, "question_id": f"v_xyz_{at}"} for at, kind in ((1, 0), (2, 3))]
    put(root / "test_a.json", answers)
    return {"v_xyz_1": ("yes", "no"), "v_xyz_2": ("yes", "no")}


def mvbench(root):
    from zoo.evaluation.benchmarks.mvbench_files import TASKS

    said = {}
    for task in TASKS:
        frames(root / "video" / task.videos / "clip")
        entry = {"video": "clip", "question": "What?", "candidates": ["up", "down"], "answer": "down"}
        bounds = {"start": 0.0, "end": 1.0} if task.frames_per_second else {}
        # Parts of video files need a video file; these tasks are tested on their own.
        entries = [] if task.has_bounds and not bounds else [{**entry, **bounds}]
        put(root / "json" / task.file, entries)
        said |= {f"{task.name}/0": ("(B) down", "(A) up") for _ in entries}
    return said


def memes(root):
    entries = []
    for at, label in ((1, 0), (2, 1)):
        put(root / "img" / f"{at}.png", picture())
        entries.append({"id": at, "img": f"img/{at}.png", "text": "hello", "label": label})
    put(root / "dev.jsonl", lines(entries))
    return {"1": ("no", "yes"), "2": ("yes", "no")}


FOLDERS = {
    "vqav2": vqa("v2_OpenEnded_mscoco_val2014_questions.json", "v2_mscoco_val2014_annotations.json"),
    "okvqa": vqa("OpenEnded_mscoco_val2014_questions.json", "mscoco_val2014_annotations.json"),
    "vizwiz": vizwiz,
    "textvqa": textvqa,
    "textvqa_ocr": textvqa,
    "gqa": gqa,
    "pope": pope("coco", "val2014"),
    "pope_aokvqa": pope("aokvqa", "val2014"),
    "pope_gqa": pope("gqa", "images"),
    "mme": mme,
    "scienceqa_img": scienceqa,
    "mmbench": mmbench("mmbench_dev_20230712.tsv"),
    "mmbench_cn": mmbench("MMBench_DEV_CN.tsv"),
    "seed_bench": seed(False),
    "seed_bench_likelihood": seed(True),
    "mmvp": mmvp,
    "coco_captions": karpathy("dataset_coco.json", "images"),
    "flickr30k": karpathy("dataset_flickr30k.json", "flickr30k-images"),
    "nocaps": nocaps,
    "vg_regions": regions,
    "refcoco": refcoco("unc"),
    "refcoco+": refcoco("unc"),
    "refcocog": refcoco("umd"),
    "pointqa_local": pointqa("pointQA_local_test.jsonl"),
    "pointqa_twice": pointqa("pointQA_twice_test.jsonl"),
    "visual7w_pointing": visual7w,
    "msvd_qa": msvd,
    "msrvtt_qa": msrvtt,
    "activitynet_qa": activitynet,
    "mvbench": mvbench,
    "hateful_memes": memes,
}


def llava_bench(root):
    put(root / "images" / "001.jpg", picture())
    asked = [
        {"question_id": at, "image": "001.jpg", "text": f"What {kind}?", "category": kind}
        for at, kind in enumerate(("conv", "complex"))
    ]
    put(root / "questions.jsonl", lines(asked))
    put(root / "context.jsonl", lines([{"id": 1, "image": "001.jpg", "caption": ["A dog.", "It runs."]}]))
    put(
        root / "answers_gpt4.jsonl",
        lines([{"question_id": at, "text": "A {brown} dog.", "answer_id": "x"} for at in (0, 1)]),
    )


def mm_vet(root):
    put(root / "images" / "v1_0.png", picture())
    entry = {"question": "What is x?", "answer": "-1<AND>-5", "capability": ["ocr", "math"]}
    put(root / "mm-vet.json", {"v1_0": {**entry, "imagename": "v1_0.png", "imagesource": "x"}})


def video_chatgpt(root):
    frames(root / "Test_Videos" / "v_a")
    put(root / "generic_qa.json", [{"video_name": "v_a", "Q": "What happens?", "A": "A dog runs."}])
    put(root / "temporal_qa.json", [{"video_name": "v_a", "Q": "What comes first?", "A": "It sits."}])
    put(root / "consistency_qa.json", [{"video_name": "v_a", "Q1": "Who?", "Q2": "Who is it?", "A": "A dog."}])
