#!/usr/bin/env bash
# Versions:  CPython 3.11, kornia 0.9.0, torch 2.15.0, torchvision 0.29.2
# Behaviour: kornia.augmentation.auto.TrivialAugment posterizes to 0 to 4 bits. With 0 bits, which an eighth of the posterized
#            images get, every pixel is 0. Its Brightness adds -0.9 to 0.9, where the paper multiplies by 0.01 to 1.99. Together,
#            1 to 2 % of images with values of 0.3 to 0.8 become black and keep their label. In the paper (Müller and Hutter
#            2021) and in torchvision's TrivialAugmentWide at least 2 bits remain. AutoContrast maps an image, or a channel, of
#            one level to 0: a white image becomes black, where Pillow leaves it.
# Remedy:    Give TrivialAugment a policy of its own, with ("posterize", 2.0, 8.0), and leave channels of one level unchanged.
# Output:    share of images that become black is 0.5 to 3 %: True
#            images of 4000 that become black, torchvision: 0
#            levels of a white image after AutoContrast: [0.0]
#            levels of a white image after Pillow's autocontrast: [255]
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
python3.11 -m venv env
env/bin/pip install --quiet --disable-pip-version-check kornia==0.9.0 torch==2.15.0 torchvision==0.29.2 pillow numpy

cat > black.py <<'PYTHON'
import numpy as np
import torch
from kornia.augmentation import RandomAutoContrast
from kornia.augmentation.auto import TrivialAugment
from PIL import Image, ImageOps
from torchvision.transforms.v2 import TrivialAugmentWide

torch.manual_seed(0)
image = 0.3 + 0.5 * torch.rand(1, 3, 64, 64)
augment = TrivialAugment()
share = sum(float(augment(image).max()) == 0 for _ in range(4000)) / 4000
print("share of images that become black is 0.5 to 3 %:", 0.005 < share < 0.03)
other, levels = TrivialAugmentWide(), (image[0] * 255).to(torch.uint8)
black = sum(int(other(levels).max()) == 0 for _ in range(4000))
print("images of 4000 that become black, torchvision:", black)
white = torch.ones(1, 3, 16, 16)
print("levels of a white image after AutoContrast:", RandomAutoContrast(p=1.0)(white).unique().tolist())
by_pillow = ImageOps.autocontrast(Image.fromarray(np.full((16, 16), 255, np.uint8)))
print("levels of a white image after Pillow's autocontrast:", np.unique(by_pillow).tolist())
PYTHON

env/bin/python black.py | tee seen.txt
diff seen.txt - <<'EXPECTED'
share of images that become black is 0.5 to 3 %: True
images of 4000 that become black, torchvision: 0
levels of a white image after AutoContrast: [0.0]
levels of a white image after Pillow's autocontrast: [255]
EXPECTED
