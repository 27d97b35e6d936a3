"""Layouts of documents and text: scans, signatures, transcriptions, captions and questions."""

import numpy as np

from benchmarks.layouts.layout_answers import CLASSES, MASKS, Answer, layouts_of
from benchmarks.layouts.miniature import Miniature


def words_of_writers(f: Miniature) -> None:
    """Handwritten words in folders of forms, with transcriptions in words.txt: text recognition."""
    lines = ["#--- words.txt"]
    for form in range(12):
        for number in range(4):
            name = f"a{form // 6 + 1:02d}-{form * 3:03d}u-00-{number:02d}"
            f.photo(f"words/a{form // 6 + 1:02d}/a{form // 6 + 1:02d}-{form * 3:03d}u/{name}.png", mode="L")
            lines.append(f"{name} ok 154 408 768 27 51 AT word{form}{number}")
    f.text("words.txt", "\n".join(lines))


def receipts_with_text(f: Miniature) -> None:
    """Receipts in img and text files in box with eight corner coordinates and the text of each line."""
    for number in range(24):
        shot = f.photo(f"SROIE/img/X{51005200 + number}.jpg")
        f.text(
            f"SROIE/box/X{51005200 + number}.txt",
            "\n".join(f"{x0},{y0},{x1},{y0},{x1},{y1},{x0},{y1},TOTAL {x1}.00" for x0, y0, x1, y1 in shot.boxes),
        )


def scans_with_text_lists(f: Miniature) -> None:
    """Scans in folders of hash digits, with lists train.txt, val.txt and test.txt of path and number of the class."""
    lists: dict[str, list[str]] = {"train": [], "val": [], "test": []}
    for number in range(60):
        code, split = f.rng.bytes(4).hex(), ("train", "val", "test")[max(0, number % 10 - 7)]
        path = f"images{code[0]}/{code[0]}/{code[1]}/{code}.tif"
        f.photo(f"images/{path}", str(number % 3), mode="L")
        lists[split].append(f"{path} {number % 3}")
    for split, lines in lists.items():
        f.text(f"labels/{split}.txt", "\n".join(lines))


def signatures_of_writers(f: Miniature) -> None:
    """Signatures, genuine in full_org and forged in full_forg; original_7_3.png is the third one of writer 7."""
    for writer in range(1, 19):
        for number in range(1, 4):
            f.photo(f"signatures/full_org/original_{writer}_{number}.png", "full_org", f"w{writer}", mode="L")
            f.photo(f"signatures/full_forg/forgeries_{writer}_{number}.png", "full_forg", f"w{writer}", mode="L")


def digits_in_folders(f: Miniature) -> None:
    """Handwritten digits in folders 0 to 4 with running numbers across all classes."""
    for number in range(80):
        kind = str(int(f.rng.integers(0, 5)))
        f.photo(f"digits/{kind}/{number:05d}.png", kind, size=(28, 28), mode="L")


def pages_of_documents(f: Miniature) -> None:
    """Pages of documents, a folder per document, and a table with one row per document and its type."""
    rows = []
    for number in range(20):
        kind = ("invoice", "letter", "form")[number % 3]
        for page in range(1, 4):
            f.photo(f"docs/doc_{number:04d}/page_{page}.png", kind, f"doc{number}", mode="L")
        rows.append({"doc_id": f"doc_{number:04d}", "type": kind})
    f.table("docs/types.csv", rows)


def pages_with_the_document_in_a_table(f: Miniature) -> None:
    """Pages with a table of file, document and type; one row per page."""
    rows = []
    for number in range(24):
        kind = ("invoice", "letter", "form")[number % 3]
        for page in range(1, 4):
            name = f"{f.rng.bytes(5).hex()}.png"
            f.photo(f"pages/{name}", kind, f"doc{number}", mode="L")
            rows.append({"file": name, "document": f"D{number:04d}", "page": page, "type": kind})
    f.table("pages.csv", rows)


def binarized_pages(f: Miniature) -> None:
    """Degraded manuscripts with ground truth of the ink: imgs/1.png and gt/1.png, where ink is black."""
    for number in range(1, 25):
        shot = f.photo(f"DIBCO/imgs/{number}.png", mode="L")
        f.pixels(f"DIBCO/gt/{number}.png", 255 - shot.mask)


def noisy_and_cleaned_pages(f: Miniature) -> None:
    """Noisy pages in train and the clean page of the same name in train_cleaned; test has pages without a clean one."""
    for number in range(36):
        shot = f.photo(f"train/{number + 2}.png", mode="L")
        f.pixels(f"train_cleaned/{number + 2}.png", shot.image.mean(axis=2).astype(np.uint8) // 2 + 90)
    for number in range(12):
        f.photo(f"test/{number + 1}.png", mode="L", counts=False)


def captions_of_photos(f: Miniature) -> None:
    """Photos and a table with five captions in words per photo."""
    rows = []
    for number in range(24):
        name = f"{1000268201 + 77 * number}_{f.rng.bytes(5).hex()}.jpg"
        f.photo(f"Images/{name}")
        rows += [
            {"image": name, "caption": f"A {word} near the {number} trees , running ."}
            for word in ("dog", "brown dog", "small animal", "pet", "puppy")
        ]
    f.table("captions.txt", rows)
    f.files["captions.csv"] = f.files.pop("captions.txt")


def questions_about_photos(f: Miniature) -> None:
    """Photos and JSON files of questions and answers about them."""
    for number in range(20):
        f.photo(f"train2014/COCO_train2014_{number * 9:012d}.jpg")
    f.json(
        "questions.json",
        {
            "questions": [
                {"image_id": number * 9, "question": "What colour is it?", "question_id": number}
                for number in range(20)
            ]
        },
    )
    f.json(
        "annotations.json",
        {
            "annotations": [
                {"image_id": number * 9, "question_id": number, "multiple_choice_answer": "red"} for number in range(20)
            ]
        },
    )


DOCUMENTS = layouts_of(
    "documents",
    {
        words_of_writers: Answer(refusal="words.txt|text|transcri|no labelled images"),
        receipts_with_text: Answer(refusal="box|text|no labelled images"),
        scans_with_text_lists: Answer(CLASSES, (), split="either", refusal="train.txt|list"),
        signatures_of_writers: Answer(CLASSES, ("folders",), "writer: first number, across the folders"),
        digits_in_folders: Answer(CLASSES, ("folders",)),
        pages_of_documents: Answer(CLASSES, (), "document folder", refusal="types.csv|folder"),
        pages_with_the_document_in_a_table: Answer(CLASSES, ("table",), "column document"),
        binarized_pages: Answer(MASKS, ("masks",), targets="gt"),
        noisy_and_cleaned_pages: Answer(("image",), ("pairs",), targets="cleaned"),
        captions_of_photos: Answer(refusal="caption|several rows|words|text"),
        questions_about_photos: Answer(refusal="question|no labelled images"),
    },
)
