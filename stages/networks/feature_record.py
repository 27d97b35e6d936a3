"""Record of the features that linear models use: `python -m stages.networks.feature_record data/image_features.txt`.

`baseline` and `audit` depend on this file and use what it says, not what is installed. A changed record therefore
reruns exactly these stages, and their results can be restored where the package with the weights is not installed.
"""

import sys
from pathlib import Path

from stages.core.errors import UserError
from stages.networks.packaged_weights import PACKAGES, weights_file
from stages.networks.pretrained_features import NETWORK, SIDE

PATCHES = "random patches\n"
PRETRAINED = f"{NETWORK} at {SIDE} pixels, weights with SHA-256 {PACKAGES[NETWORK].sha256}\n"
COMMAND = "make weights"


def record_features(file: Path) -> str:
    """Write which features can be computed with the installed packages, and return the text.

    A file that says the same is not written again.
    """
    text = PATCHES + (PRETRAINED if weights_file(NETWORK) else "")
    if not file.exists() or file.read_text(encoding="utf-8") != text:
        part = file.with_name(f"{file.name}.part")
        part.write_text(text, encoding="utf-8")
        part.replace(file)
    return text


def uses_pretrained(file: Path) -> bool:
    """Return whether the record names pretrained features, which then can be computed.

    Raises:
        UserError: the record is not one of this version, or names features of a package that is not installed.
    """
    text = file.read_text(encoding="utf-8")
    if text == PATCHES:
        return False
    if text != PATCHES + PRETRAINED:
        raise UserError(
            f"{file} does not name features of this version; write it again: `{COMMAND}`, or "
            f"`python -m stages.networks.feature_record {file}`"
        )
    if weights_file(NETWORK) is None:
        raise UserError(
            f"{file} names features of {NETWORK}, but its package {PACKAGES[NETWORK].name} is not installed: "
            f"`{COMMAND}` installs it; `make without-weights` records that it is not used"
        )
    return True


def describe_features(share: float) -> str:
    """Return the kinds of features in words.

    Args:
        share: share of the pretrained features in the total variance, 0 to 1.
    """
    pretrained = f"{NETWORK} at {SIDE} pixels"
    if share in (0.0, 1.0):
        return pretrained if share else "random patches"
    return f"random patches ({1 - share:.0%}) and {pretrained} ({share:.0%})"


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit("usage: python -m stages.networks.feature_record FILE")
    try:
        print(f"{sys.argv[1]}: {', '.join(record_features(Path(sys.argv[1])).splitlines())}")
    except OSError as error:
        sys.exit(f"error: {sys.argv[1]} cannot be written: {error.strerror}")
