"""Recognize image formats that are not supported, so that the error message can name the format and a conversion."""

BRANDS = {
    **dict.fromkeys((b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"hevm", b"hevs"), "HEIC"),
    **dict.fromkeys((b"avif", b"avis"), "AVIF"),
    **dict.fromkeys((b"mif1", b"mif2", b"msf1"), "HEIF"),
}
"""Formats by brand of an ISO base media file (ISO/IEC 23008-12, annex B).

The first known brand other than HEIF counts, or else HEIF.
"""
SIGNATURES = {
    b"\0\0\0\x0cjP  \r\n\x87\n": "JPEG 2000",
    b"\xff\x4f\xff\x51": "JPEG 2000",
    b"\0\0\0\x0cJXL \r\n\x87\n": "JPEG XL",
    b"\xff\x0a": "JPEG XL",
    b"8BPS": "Photoshop",
    b"%PDF": "PDF",
}
"""Formats by the first bytes of a file."""
DICOM_OFFSET = 128  # bytes before the signature of DICOM
PHONE = "; on an iPhone, Settings > Camera > Formats > Most Compatible saves JPEG"


def describe_unsupported(data: bytes) -> str:
    r"""Return that a file has a known unsupported format, with a conversion; empty for other files.

    >>> describe_unsupported(b"%PDF-1.7")
    'is a PDF file, which is not supported; convert it to PNG (magick IMAGE IMAGE.png)'
    """
    name = _find_format(data)
    if not name:
        return ""
    how = "convert it to PNG (magick IMAGE IMAGE.png)"
    if name == "DICOM":
        how = "convert it to PNG, or to TIFF for 16 bits (dcm2img IMAGE.dcm IMAGE.png)"
    elif name in ("HEIC", "HEIF"):
        how += PHONE
    return f"is a {name} file, which is not supported; {how}"


def _find_format(data: bytes) -> str:
    if data[4:8] == b"ftyp":
        brands = data[8 : min(int.from_bytes(data[:4], "big"), 256)]
        names = [BRANDS[brand] for at in range(0, len(brands), 4) if (brand := brands[at : at + 4]) in BRANDS]
        return min(names, key=lambda name: name == "HEIF", default="")  # HEIF only names the container
    if data[DICOM_OFFSET : DICOM_OFFSET + 4] == b"DICM":
        return "DICOM"
    return next((name for signature, name in SIGNATURES.items() if data.startswith(signature)), "")
