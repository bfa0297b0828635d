"""What the figures of a run mean, in plain words, and what to try next.

A finding is a code with the numbers that it is about; `TEXTS` says each in English and in Chinese. The rules are few
and stated, so that a test can hold a made-up run against each. They look at the loss on the fixed set, not at that of
the training, which mostly says which timesteps were drawn (arXiv 2302.04841).
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from textual_inversion.reporting.figures import Curve
from textual_inversion.reporting.run_facts import RunFacts

FIXED_SET = "eval/fixed_set_loss"
GOOD, HINT, BAD = "good", "hint", "bad"

STILL_FALLING = 0.02  # of the whole way down, in the last quarter of the steps, above this the run ended too early
TOO_LONG = 0.5  # the lowest loss lies in this first part of the steps, and the loss has risen again
_RISEN = 0.02  # of the whole way down
_NOT_LEARNED = 0.01  # the loss has fallen by less than this
_UNLIKE = 0.35  # share of the way to the best possible likeness
_RIGID = 0.85  # share of the baseline's text similarity that is kept
_LEAKS = 0.9  # of what a word without any aim would leak
_SKIPPED = 0.02  # share of the steps
_LONG_VECTOR = 1.2  # times the longest vector of the vocabulary


@dataclass(frozen=True)
class Finding:
    """Something that the figures of a run show.

    Attributes:
        code: a key of `TEXTS`.
        level: GOOD, HINT or BAD.
        values: what the texts name.
    """

    code: str
    level: str
    values: Mapping[str, Any] = field(default_factory=dict)

    def text(self, language: str = "en") -> str:
        """What was found and what to try, as a sentence each."""
        return TEXTS[self.code][language].format(**self.values)


TEXTS = {
    "still_falling": {
        "en": "The loss was still falling when the run ended: {share:.0%} of its way down lies in the last quarter of "
        "the steps. Train longer, for instance --max_train_steps {more}.",
        "zh": "训练结束时损失仍在下降：全部降幅的 {share:.0%} 出现在最后四分之一的步数里。请训练得更久，"
        "例如 --max_train_steps {more}。",
    },
    "too_long": {
        "en": "The run was too long: the loss was lowest at step {best} of {steps}, and has risen since. Take "
        "the embedding saved nearest to that step, or train with --max_train_steps {best}.",
        "zh": "训练过久：损失在第 {best} 步（共 {steps} 步）时最低，之后又上升。请使用最接近该步保存的嵌入，"
        "或用 --max_train_steps {best} 重新训练。",
    },
    "not_learned": {
        "en": "The loss hardly fell ({change:+.1%}): the word has learned little. Try a higher --learning_rate, more "
        "steps, or more vectors (--num_vectors).",
        "zh": "损失几乎没有下降（{change:+.1%}）：这个词学到的很少。请尝试更高的 --learning_rate、更多步数，"
        "或更多向量（--num_vectors）。",
    },
    "unlike": {
        "en": "What {word} draws is not yet like the training images: {share:.0%} of the way to the best possible. "
        "Train longer, or with more vectors (--num_vectors).",
        "zh": "{word} 画出的图片还不太像训练图片：只达到最佳可能值的 {share:.0%}。请训练更久，"
        "或使用更多向量（--num_vectors）。",
    },
    "rigid": {
        "en": "{word} is hard to edit: only {ratio:.0%} of what prompts ask for besides it is kept. Use an earlier "
        "step, or a mix with its start; score.py --curve shows which.",
        "zh": "{word} 难以编辑：提示词中其他要求只保留了 {ratio:.0%}。请使用较早的步数，或与起始向量混合；"
        "score.py --curve 会给出建议。",
    },
    "repeats": {
        "en": "{word} repeats its pictures: {share:.0%} of what it draws is a copy of a training image. Train for "
        "fewer steps, or with more and more varied images.",
        "zh": "{word} 在重复训练图片：它画出的图片中有 {share:.0%} 是训练图片的复制。请减少步数，"
        "或使用更多、更多样的图片。",
    },
    "leaks": {
        "en": "{word} means the background as well as the thing: {leak:.0%} of its attention lies beside the thing, "
        "which fills all but {outside:.0%} of the images. Use masks (--mask_dir), or images with other backgrounds.",
        "zh": "{word} 不仅代表物体，也代表背景：它的注意力有 {leak:.0%} 落在物体之外，而图片中物体之外的面积为 "
        "{outside:.0%}。请使用蒙版（--mask_dir），或换成背景不同的图片。",
    },
    "image_not_learned": {
        "en": "{image} was not learned: its loss changed by {change:+.0%}, that of the others by {others:+.0%}. Does "
        "it show the same thing? If not, train without it.",
        "zh": "{image} 没有被学会：它的损失变化为 {change:+.0%}，其他图片为 {others:+.0%}。它展示的是同一事物吗？"
        "如果不是，请去掉它再训练。",
    },
    "images": {
        "en": "The look at the images before training found {count} thing(s) to mend in them; images.png shows what "
        "the model saw. Mend them, or leave those images out.",
        "zh": "训练前检查图片时发现了 {count} 处需要修正的问题；images.png 显示模型所看到的内容。请修正，"
        "或去掉这些图片。",
    },
    "skipped": {
        "en": "{skipped} of {steps} steps were skipped because loss or gradient were not finite. Lower "
        "--learning_rate, or compute in full precision (--mixed_precision no).",
        "zh": "由于损失或梯度不是有限值，{steps} 步中有 {skipped} 步被跳过。请降低 --learning_rate，"
        "或使用全精度（--mixed_precision no）。",
    },
    "long_vector": {
        "en": "A vector of {word} is {times:.1f} times as long as the longest one of the vocabulary, so it may drown "
        "the rest of a prompt. Use a lower --learning_rate, or --norm_reg_weight.",
        "zh": "{word} 的一个向量长度是词表中最长向量的 {times:.1f} 倍，可能压过提示词的其余部分。"
        "请降低 --learning_rate，或使用 --norm_reg_weight。",
    },
    "fine": {
        "en": "Nothing in the figures speaks against this run.",
        "zh": "从各项数据看，这次训练没有问题。",
    },
    "unmeasured": {
        "en": "Nothing was measured that could say how well the word was learned. Measure the loss on a fixed set "
        "(--eval_steps), or run score.py.",
        "zh": "没有任何测量能说明这个词学得如何。请测量固定样本集上的损失（--eval_steps），或运行 score.py。",
    },
}


def findings(run: RunFacts) -> list[Finding]:
    """What the figures of a run show, the worst first; at least one."""
    found = [*_of_loss(run.curves.get(FIXED_SET, [])), *_of_images(run.figures), *_of_steps(run)]
    found += _of_vectors(run.figures.get("rows", {}))
    for word, score in run.scores.items():
        found += _of_score(word, score)
    if not found:
        is_measured = len(run.curves.get(FIXED_SET, [])) > 1 or bool(run.scores)
        return [Finding("fine", GOOD) if is_measured else Finding("unmeasured", HINT)]
    return sorted(found, key=lambda one: one.level != BAD)


def _of_loss(losses: Curve) -> Iterator[Finding]:
    """What the loss on the fixed set says, from at least four looks at it."""
    if len(losses) < 4:
        return
    steps, values = zip(*losses, strict=True)
    first, last, lowest = values[0], values[-1], min(values)
    down = first - lowest
    if first <= 0 or down < _NOT_LEARNED * first:
        yield Finding("not_learned", BAD, {"change": last / first - 1 if first > 0 else 0.0})
        return
    best = steps[values.index(lowest)]
    if best <= TOO_LONG * steps[-1] and last - lowest > _RISEN * down:
        yield Finding("too_long", HINT, {"best": best, "steps": steps[-1]})
    later = _at(losses, 0.75 * steps[-1])
    if (later - last) / down > STILL_FALLING and last == lowest:
        yield Finding("still_falling", HINT, {"share": (later - last) / down, "more": 2 * steps[-1]})


def _at(curve: Curve, step: float) -> float:
    """The value at a step, on the line between the two looks around it."""
    (before, low), (after, high) = next(pair for pair in zip(curve, curve[1:], strict=False) if pair[1][0] >= step)
    return low + (high - low) * (step - before) / (after - before)


def _of_images(figures: Mapping[str, Any]) -> Iterator[Finding]:
    names = figures.get("unlearned_names", {})
    for number, falls in figures.get("unlearned_images", {}).items():
        if len(falls) == 2:
            image = names.get(number, f"image {number}")
            yield Finding("image_not_learned", BAD, {"image": image, "change": -falls[0], "others": -falls[1]})
    count = sum(figures.get("image_findings", {}).values())
    if count > 0:
        yield Finding("images", HINT, {"count": count})


def _of_steps(run: RunFacts) -> Iterator[Finding]:
    skipped = run.figures.get("skipped_steps", 0)
    if run.steps and skipped > _SKIPPED * run.steps:
        yield Finding("skipped", BAD, {"skipped": skipped, "steps": run.steps})


def _of_vectors(rows: Mapping[str, Mapping[str, Mapping[str, Any]]]) -> Iterator[Finding]:
    for word, encoders in rows.items():
        times = [_times(own) for own in encoders.values()]
        if max(times, default=0.0) > _LONG_VECTOR:
            yield Finding("long_vector", HINT, {"word": word, "times": max(times)})


def _times(figures: Mapping[str, Any]) -> float:
    norms: Sequence[float] = [norm for norm in figures.get("norm", []) if norm is not None]
    largest = figures.get("table_largest")
    return max(norms) / largest if norms and largest and math.isfinite(largest) and largest > 0 else 0.0


def _of_score(word: str, score: Mapping[str, Any]) -> Iterator[Finding]:
    share, ratio, copies, leak = (score.get(k) for k in ("share_of_the_way", "text_ratio", "copies", "background_leak"))
    if copies and copies.get("repeats"):
        yield Finding("repeats", BAD, {"word": word, "share": copies.get("share", 0.0)})
    if share is not None and share < _UNLIKE:
        yield Finding("unlike", HINT, {"word": word, "share": share})
    if ratio is not None and ratio < _RIGID:
        yield Finding("rigid", HINT, {"word": word, "ratio": ratio})
    if leak and leak.get("outside", 0) > 0 and leak.get("concept", 0) > _LEAKS * leak["outside"]:
        yield Finding("leaks", HINT, {"word": word, "leak": leak["concept"], "outside": leak["outside"]})
