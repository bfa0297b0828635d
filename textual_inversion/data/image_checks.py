"""A look at training images before they are trained on: what is wrong with one of them, or with all together.

    look_at(image, …)      what one image shows of itself, in numbers: a thumbnail, sharpness, edges, text
    problems(looks, …)     what is to be said of a concept's images

Each threshold stands beside its check. They were set on the demo's images and on made-up cases, and are meant to miss
rather than to cry wolf: a finding is for a person to look at.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageFilter

from textual_inversion.data.text_in_images import has_text

DUPLICATE, BLUR, TINY, STRETCHED, CROPPED, BORDERS, TEXT, ODD, BACKGROUND = CHECKS = (
    "duplicate", "blur", "tiny", "stretched", "cropped", "borders", "text", "odd one out", "shared background",
)  # fmt: skip
_SIDE = 16  # pixels of a thumbnail
_SAME = 0.985  # correlation of two thumbnails, from which they show the same
_BLURRED = 0.1  # steepest edge, of the range of brightness, below which an image is blurred
_BLANK = 0.02  # contrast (standard deviation of the brightness, of 1) below which an image shows nothing
_TINY = 1.5  # times that an image is enlarged
_STRETCHED = 1.3  # times that one side is stretched more than the other
_CROPPED = 0.4  # share of an image that is cut off
_ODD_IMAGES = 4  # the fewest images among which one is odd
_ODD_SPREADS = 5.0  # how many times further than usual an odd image is from the others
# By how much less than the median image an odd one is like the others, at the least: cosines of CLIP features, and of
# colours, which differ much among images of one thing in several places.
_ODD_GAP, _ODD_COLOURS_GAP = 0.15, 0.4
_LEAST_TOGETHER = 3  # the fewest images that can be said to share a background
_RING = 2  # pixels of a thumbnail's edge that are taken for background
_ALIKE_BACKGROUNDS = 0.9  # median cosine of CLIP features of two backgrounds, above which they are the same
_SAME_BACKGROUND = 0.1  # difference (root mean square, of 1) of two edges, below which they are the same


@dataclass(frozen=True)
class Look:
    """What an image shows of itself.

    Attributes:
        name: of its file.
        thumbnail: float32 [16, 16, 3] in [0, 1], of the image as the model sees it.
        contrast: standard deviation of its brightness, of 1.
        sharpness: its steepest edges, as a share of its range of brightness.
        enlarged: times by which its pixels are enlarged; below 1 they are reduced.
        stretched: times by which one side is stretched more than the other, 1 or more.
        cropped: share of the image that is cut off.
        has_borders: two opposite edges are bars of one colour.
        has_text: there is a line of what may be letters.
    """

    name: str
    thumbnail: np.ndarray
    contrast: float
    sharpness: float
    enlarged: float
    stretched: float
    cropped: float
    has_borders: bool
    has_text: bool


@dataclass(frozen=True)
class Finding:
    """What is to be said of one image, or of all.

    Attributes:
        check: one of `CHECKS`.
        text: a line that names the image and the way out.
    """

    check: str
    text: str


def look_at(name: str, original: Image.Image, framed: Image.Image, *, crops: bool) -> Look:
    """Look at an image.

    Args:
        original: RGB, upright, as it is on disk.
        framed: RGB, as the model sees it.
        crops: it was cut to that shape and not squashed.
    """
    grey = _grey(framed)
    contrast = float(grey.std())
    across, down = framed.width / original.width, framed.height / original.height
    scale = max(across, down)
    shown = (framed.width * framed.height) / (scale**2 * original.width * original.height)
    return Look(
        name=name,
        thumbnail=np.asarray(framed.resize((_SIDE, _SIDE), Image.Resampling.BOX), np.float32) / 255,
        contrast=contrast,
        sharpness=_sharpness(grey),
        enlarged=scale,
        stretched=1.0 if crops else max(across, down) / min(across, down),
        cropped=1 - shown if crops else 0.0,
        has_borders=has_borders(np.asarray(original.convert("RGB"), np.int16)),
        has_text=has_text(original),
    )


def problems(
    looks: Sequence[Look],
    features: np.ndarray | None = None,
    backgrounds: np.ndarray | None = None,
    *,
    is_style: bool = False,
    has_masks: bool = False,
) -> list[Finding]:
    """What is to be said of a concept's images, image by image and then of all.

    Args:
        features: of each image in CLIP's space, unit norm, float32 [n, P]; None: its colours are compared.
        backgrounds: the same of `background_of` each image; None: the edges of the thumbnails are compared.
        is_style: a style is learned: its frames belong to it, its images show different things, and a background that
            they share is a part of it.
        has_masks: masks leave backgrounds out.
    """
    found = [finding for look in looks for finding in _of_one(look) if not (is_style and finding.check == BORDERS)]
    found += _duplicates(looks)
    if not is_style:
        found += _odd(looks, features)
    if not is_style and not has_masks:
        found += _background(looks, backgrounds)
    return found


# --------------------------------------------------------------------------------------------------------- one image


def _of_one(look: Look) -> list[Finding]:
    found = []
    if look.contrast < _BLANK:
        found.append((BLUR, "shows next to nothing but one colour; leave it out"))
    elif look.sharpness < _BLURRED:
        found.append((BLUR, "is blurred as the model sees it; take a sharper image"))
    if look.enlarged > _TINY:
        found.append((TINY, f"is small and enlarged {look.enlarged:.1f} times; take a larger image"))
    if look.stretched > _STRETCHED:
        way = "--resize_mode center_crop or bucket keeps the shape"
        found.append((STRETCHED, f"is stretched {look.stretched:.1f} times in one direction; {way}"))
    if look.cropped > _CROPPED:
        way = "--resize_mode bucket cuts off less"
        found.append((CROPPED, f"loses {look.cropped:.0%} of its area when it is cropped; {way}"))
    if look.has_borders:
        found.append((BORDERS, "has bars of one colour at two edges, which are learned too; cut them off"))
    if look.has_text:
        found.append((TEXT, "seems to have text or a watermark in it, which is learned too; cut it off or mask it"))
    return [Finding(check, f"{look.name} {text}") for check, text in found]


def _grey(image: Image.Image) -> np.ndarray:
    return np.asarray(image.convert("L"), np.float32) / 255


def _sharpness(grey: np.ndarray) -> float:
    """The steepest edges of an image float32 [H, W]: the step between neighbours, as a share of its range.

    An edge that is spread over ten pixels reaches a tenth. A share of the range, not of the detail: an image with few
    edges is as sharp as one with many.
    """
    low, high = np.quantile(grey, (0.02, 0.98))
    across, down = np.abs(np.diff(grey, axis=1)).ravel(), np.abs(np.diff(grey, axis=0)).ravel()
    return float(np.quantile(np.concatenate([across, down]), 0.995)) / max(float(high - low), _BLANK)


def has_borders(pixels: np.ndarray) -> bool:
    """Whether two opposite edges are bars of the same colour, each 3 to 40 % of the side and straight.

    Args:
        pixels: int16 [H, W, 3], 0 to 255.
    """
    return any(
        bar is not None and other is not None and np.abs(bar - other).max() < 10
        for bar, other in ((_bar(each), _bar(each[::-1])) for each in (pixels, pixels.swapaxes(0, 1)))
    )


def _bar(pixels: np.ndarray) -> np.ndarray | None:
    """The colour of a bar at the top of an image; None where there is none."""
    least, most = round(0.03 * len(pixels)), round(0.4 * len(pixels))
    colour = np.median(pixels[0], axis=0)
    off = np.abs(pixels[: most + 1] - colour).max(axis=2) > 16  # (rows, W): what has another colour
    is_bar = off.mean(axis=1) < 0.01
    rows = int(np.argmin(is_bar)) if not is_bar.all() else len(is_bar)
    if not max(2, least) <= rows <= most:
        return None
    # A bar ends everywhere at once; a plain background ends where the thing begins.
    return colour if off[rows : rows + 2].mean(axis=1).max() > 0.6 else None


# -------------------------------------------------------------------------------------------------------- all of them


def _duplicates(looks: Sequence[Look]) -> list[Finding]:
    found = []
    for later, look in enumerate(looks):
        for earlier in looks[:later]:
            if are_alike(look.thumbnail, earlier.thumbnail):
                found.append(Finding(DUPLICATE, f"{look.name} is nearly the same as {earlier.name}; leave one out"))
                break
    return found


def are_alike(one: np.ndarray, other: np.ndarray) -> bool:
    """Whether two thumbnails show the same image, perhaps mirrored, lighter or darker, or saved anew."""
    return max(_correlation(one, other), _correlation(one, other[:, ::-1])) > _SAME


def _correlation(one: np.ndarray, other: np.ndarray) -> float:
    one, other = one - one.mean(), other - other.mean()
    scale = float(np.sqrt((one**2).sum() * (other**2).sum()))
    return float((one * other).sum()) / scale if scale > 1e-6 else 0.0


def colours_of(looks: Sequence[Look]) -> np.ndarray:
    """How much of each colour an image has, as unit vectors: float32 [n, 64], for comparing without CLIP."""
    bins = np.stack([np.minimum((look.thumbnail * 4).astype(int), 3) for look in looks])  # (n, S, S, 3)
    numbers = (bins * np.array([16, 4, 1])).sum(axis=-1).reshape(len(looks), -1)
    shares = np.stack([np.bincount(row, minlength=64) / len(row) for row in numbers])
    return np.sqrt(shares).astype(np.float32)


def _odd(looks: Sequence[Look], features: np.ndarray | None) -> list[Finding]:
    if features is None:
        found = odd_ones(colours_of(looks), _ODD_COLOURS_GAP)
    else:
        found = odd_ones(features, _ODD_GAP)
    return [
        Finding(ODD, f"{looks[index].name} looks unlike the others; does it show the same thing?") for index in found
    ]


def odd_ones(features: np.ndarray, gap: float = _ODD_GAP) -> list[int]:
    """Indices of the images that are much less like the others than these are among themselves.

    The likeness of an image is its median cosine with the others. An odd one lies below the median likeness by five
    times the usual distance from it (median absolute deviation), and by `gap` at the least.

    Args:
        features: unit vectors, float32 [n, P].
    """
    if len(features) < _ODD_IMAGES:
        return []
    cosines = features @ features.T
    likeness = np.array([np.median(np.delete(row, index)) for index, row in enumerate(cosines)])
    usual = np.median(likeness)
    spread = np.median(np.abs(likeness - usual))
    return [int(index) for index in np.flatnonzero(usual - likeness > max(gap, _ODD_SPREADS * spread))]


def ring_of(look: Look) -> np.ndarray:
    """The edge of a thumbnail, which is mostly background: float32 [K]."""
    inside = np.zeros((_SIDE, _SIDE), dtype=bool)
    inside[_RING:-_RING, _RING:-_RING] = True
    return look.thumbnail[~inside].reshape(-1)


def _background(looks: Sequence[Look], features: np.ndarray | None) -> list[Finding]:
    is_shared = share_edges(np.stack([ring_of(look) for look in looks]))
    if features is not None and len(looks) >= _LEAST_TOGETHER:
        is_shared |= float(np.median(_of_pairs(features @ features.T))) > _ALIKE_BACKGROUNDS
    if not is_shared:
        return []
    way = "take other backgrounds, name it in the captions, or give masks (--mask_dir)"
    return [Finding(BACKGROUND, f"all {len(looks)} images have much the same background, which is learned too; {way}")]


def share_edges(rings: np.ndarray) -> bool:
    """Whether four of five pairs of images have much the same edges.

    Args:
        rings: see `ring_of`, float32 [n, K] of 0 to 1.
    """
    if len(rings) < _LEAST_TOGETHER:
        return False
    differences = np.sqrt(((rings[:, None] - rings[None]) ** 2).mean(axis=2))  # (n, n)
    return float(np.quantile(_of_pairs(differences), 0.8)) < _SAME_BACKGROUND


def _of_pairs(values: np.ndarray) -> np.ndarray:
    """The values [n, n] of all pairs of two images, once each."""
    return values[np.triu_indices(len(values), 1)]


def background_of(framed: Image.Image) -> Image.Image:
    """An image with its middle blurred away, in which CLIP sees the background."""
    blurred = framed.filter(ImageFilter.GaussianBlur(max(framed.size) / 6))
    covered, box = framed.copy(), [round(0.2 * framed.width), round(0.2 * framed.height)]
    box += [framed.width - box[0], framed.height - box[1]]
    covered.paste(blurred.crop(tuple(box)), tuple(box[:2]))
    return covered
