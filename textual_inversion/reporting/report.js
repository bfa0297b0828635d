
const TEXTS = {
  en: {
    other: "中文", on: "on", off: "off", beforeAfter: "Before and after", overTime: "While it learned",
    curvesTitle: "Curves", scores: "Scores", training: "Training images", use: "How to use the word", settings: "Settings",
    all: "All settings", before: "before", after: "after", step: "step", name: "Setting", value: "Value",
    image: "Image similarity", text: "Text similarity", baseline: "baseline", concept: "concept", ceiling: "best possible",
    share: "share", way: "of the way", kept: "kept", given: "Those that were given, or chosen by the run, stand first.",
    scoresNote: "CLIP cosines with their standard errors. Image similarity: is it like the training images? Text similarity: does it still follow the prompt?",
    model: "base model", steps: "steps", seed: "seed", curves: {
      "train/loss": "Training loss (mostly which timesteps were drawn)", "train/learning_rate": "Learning rate",
      "eval/fixed_set_loss": "Loss on a fixed set", "eval/fixed_set_loss_bands": "Loss on a fixed set, by how much noise there is",
      "eval/image_loss": "Loss of each image, in the order of their names", "train/estimated_distance": "Estimated distance to the goal",
      "samples/image_similarity": "Image similarity of the validation images",
    },
    little_noise: "little noise (details)", half_noise: "half noise", much_noise: "much noise (the whole)",
    here: "With this program", ppdiffusers: "ppdiffusers, diffusers", a1111: "AUTOMATIC1111: copy the file into embeddings/, then write",
    comfyui: "ComfyUI: copy the file into models/embeddings/, then write", convert: "For other programs", curve: "Which step or mix is best",
    xl: "For Stable Diffusion XL, README.md in this folder has an example.",
  },
  zh: {
    other: "English", on: "开", off: "关", beforeAfter: "训练前后", overTime: "学习过程", curvesTitle: "曲线", scores: "得分",
    training: "训练图片", use: "如何使用这个词", settings: "设置", all: "全部设置", before: "训练前", after: "训练后", step: "步",
    name: "设置项", value: "值", image: "图像相似度", text: "文本相似度", baseline: "基线", concept: "概念", ceiling: "最佳可能",
    share: "占比", way: "（从基线到最佳）", kept: "保留", given: "用户给出或由程序选定的设置排在前面。",
    scoresNote: "CLIP 余弦及其标准误差。图像相似度：像不像训练图片？文本相似度：还听不听提示词？",
    model: "基础模型", steps: "步数", seed: "随机种子", curves: {
      "train/loss": "训练损失（主要反映抽到的时间步）", "train/learning_rate": "学习率",
      "eval/fixed_set_loss": "固定样本集上的损失", "eval/fixed_set_loss_bands": "固定样本集上的损失（按噪声多少）",
      "eval/image_loss": "每张图片的损失（按文件名排序）", "train/estimated_distance": "估计的到目标的距离",
      "samples/image_similarity": "验证图片的图像相似度",
    },
    little_noise: "噪声少（细节）", half_noise: "噪声居中", much_noise: "噪声多（整体）",
    here: "用本程序", ppdiffusers: "ppdiffusers、diffusers", a1111: "AUTOMATIC1111：把文件复制到 embeddings/，然后写",
    comfyui: "ComfyUI：把文件复制到 models/embeddings/，然后写", convert: "用于其他程序", curve: "哪一步或哪种混合最好",
    xl: "Stable Diffusion XL 的例子见本文件夹中的 README.md。",
  },
};
function render() {
  byId("words").textContent = data.words.join(", ");
  byId("about").textContent = data.about.map(([key, value]) => `${t(key)} ${value}`).join(" · ");
  fill("findings", ...data.findings.map((one) => make("li", one.level, one[language])));
  fill("pairs", ...data.pairs.map(([prompt, before, after]) => make("figure", "pair", null, make("div", "", null,
    captioned(before, t("before")), captioned(after, t("after"))), make("figcaption", "", prompt))));
  fill("training", ...data.training.map((one) => image(one)));
  fill("scores", ...data.scores.map(scoreTable));
  fill("use", ...data.use.map(([key, text]) => make("div", "", null, make("div", "label", t(key)), ...(text ? [make("pre", "", text)] : []))));
  const rows = (list) => list.map(([name, value]) => ["", [name, shown(value)]]);
  fill("given", make("p", "faint", t("given")), table([t("name"), t("value")], rows(data.given)));
  byId("all").replaceChildren(table([t("name"), t("value")], rows(data.settings)));
  showStep();
}
function scoreTable(score) {
  const rows = ["baseline", "concept", "ceiling"].map((key) => ["", [
    make("td", "", score[key].word ? `${t(key)}: ${score[key].word}` : t(key)), number(score[key].image), number(score[key].text)]]);
  rows.push(["", [make("td", "", t("share")), number(score.share ? `${score.share} ${t("way")}` : "–"),
    number(score.kept ? `${score.kept} ${t("kept")}` : "–")]]);
  return table([score.word, t("image"), t("text")], rows);
}
function showStep() {
  const slider = byId("step"), frames = data.frames;
  slider.max = Math.max(0, frames.length - 1);
  slider.setAttribute("aria-label", t("overTime"));
  const [step, images] = frames[slider.value] ?? [0, []];
  byId("at").textContent = language === "zh" ? `第 ${step} ${t("step")}` : `${t("step")} ${step}`;
  fill("frame", ...images.map((one, position) => captioned(one, data.prompts[position] ?? "")));
}
byId("step").value = Math.max(0, data.frames.length - 1);
byId("step").max = Math.max(0, data.frames.length - 1);
byId("step").value = byId("step").max;
byId("step").addEventListener("input", showStep);
begin();
