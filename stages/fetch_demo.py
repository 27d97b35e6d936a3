"""Write the demo data set with one folder per class: `python -m stages.fetch_demo OUTPUT`.

The images are 1,797 handwritten digits of 8x8 pixels that scikit-learn ships: the test half of "Optical Recognition of
Handwritten Digits" (E. Alpaydin and C. Kaynak 1998, UCI Machine Learning Repository), written by 13 people. The data do
not record which person wrote which digit.
"""

from typing import Any

import numpy as np
from PIL import Image
from sklearn.datasets import load_digits

from stages.runner.stage import Out, run

GREY_PER_LEVEL = 15  # the levels of the scans are 0 to 16


def main(output: Out) -> dict[str, Any]:
    """Write `<digit>/<number>.png`, uncompressed, so that the file size does not depend on the digit."""
    digits = load_digits()
    for number, (image, label) in enumerate(zip(digits.images, digits.target, strict=True)):
        folder = output / str(label)
        folder.mkdir(exist_ok=True)
        Image.fromarray((image * GREY_PER_LEVEL).astype(np.uint8)).save(folder / f"{number:04d}.png", compress_level=0)
    return {}


if __name__ == "__main__":
    run(main)
