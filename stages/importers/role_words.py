"""Words in names of files and folders that denote what the files are: images, labels, inputs, targets, views."""

DATA_FOLDERS = frozenset(
    "image images img imgs jpegimages mask masks gt truth label labels annotation annotations target targets seg "
    "segmentation segmentations segmentationclass segmentationobject noisy clean input output".split()
)
"""Folder names that denote the role of files, not classes."""
IMAGE_FOLDERS = frozenset("image images img imgs jpegimages input".split())
"""Names of folders that contain the images themselves."""
IMAGE_WORDS = frozenset("image images img imgs jpegimages input inputs".split())
"""Words in patterns of the images themselves."""
INPUT_WORDS = frozenset(
    "noisy noise input inputs low lr lowres lq blur blurred blurry degraded corrupted damaged raw source src hazy "
    "rainy compressed undersampled distorted bicubic".split()
)
"""Words that denote the degraded image, which is the input of a restoration task."""
DEPTH_WORDS = frozenset("disp disparity disparities depth depths depthmap".split())
"""Words that denote maps of distances, which are targets even if they have few values."""
TARGET_WORDS = DEPTH_WORDS | frozenset(
    "clean cleaned denoised restored gt groundtruth target targets output outputs high hr highres hq sharp deblurred "
    "dehazed derained reference enhanced".split()
)
"""Words that denote the image to be predicted."""
RESTORED_WORDS = frozenset("clean cleaned denoised restored highres hr hq sharp deblurred dehazed derained".split())
"""Target words that do not denote masks, even if the images have as few levels as masks, such as clean pages."""
EXPLICIT_INPUTS = frozenset(("input", "inputs"))
"""Words that denote the input even if the images do not look alike."""
EXPLICIT_TARGETS = frozenset(("target", "targets", "output", "outputs"))
"""Words that denote the target even if the images do not look alike."""
WORDS_OF = {
    "channels": frozenset(
        "red green blue yellow cyan magenta rgb nir ir swir tir thermal infrared pan vv vh hh hv dapi gfp rfp yfp cfp "
        "cy fitc tritc hoechst er mito actin brightfield phase dic channel band bands".split()
    ),
    "times": frozenset(
        "before after pre post baseline followup day night morning evening year month time date".split()
    ),
    "views": frozenset(
        "left right l r front back rear top bottom side above below upper lower dorsal ventral lateral medial cam "
        "camera view lamp light led flash pose eye od os".split()
    ),
}
"""Words that name the channel, time or view of several images of one object."""
ALTERED = frozenset("aug augm augmented augmentation augmentations flipped rotated mirrored".split())
"""Words in names of folders with altered copies of other images."""
LABELS = frozenset("gt groundtruth truth mask masks label labels annotation annotations target targets seg".split())
"""Names of folders that usually contain the labels of other images."""
