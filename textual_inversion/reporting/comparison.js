
const CURVES_ZH = {
  "train/loss": "训练损失（主要反映抽到的时间步）", "train/learning_rate": "学习率", "eval/fixed_set_loss": "固定样本集上的损失",
  "samples/image_similarity": "验证图片的图像相似度", "train/estimated_distance": "估计的到目标的距离",
  "eval/fixed_set_loss_little_noise": "固定样本集上的损失：噪声少（细节）",
  "eval/fixed_set_loss_half_noise": "固定样本集上的损失：噪声居中",
  "eval/fixed_set_loss_much_noise": "固定样本集上的损失：噪声多（整体）",
};
const TEXTS = {
  en: {
    other: "中文", on: "on", off: "off", title: "Runs compared", settings: "Settings that differ", same: "All settings are the same.",
    scores: "Scores", curvesTitle: "Curves", images: "The same prompts and seeds", name: "Setting", run: "Run",
    image: "Image similarity", text: "Text similarity", difference: "Difference", step: "step",
    better: "better, more than chance", worse: "worse, more than chance", chance: "within chance",
    unknown: "no standard error is known",
    note: "Differences are those to the first run, with their standard errors. Within chance: other seeds alone would give as much once in twenty times.",
    curves: {
      "train/loss": "Training loss (mostly which timesteps were drawn)", "train/learning_rate": "Learning rate",
      "eval/fixed_set_loss": "Loss on a fixed set", "samples/image_similarity": "Image similarity of the validation images",
      "eval/fixed_set_loss_little_noise": "Loss on a fixed set: little noise (details)",
      "eval/fixed_set_loss_half_noise": "Loss on a fixed set: half noise",
      "eval/fixed_set_loss_much_noise": "Loss on a fixed set: much noise (the whole)",
      "train/estimated_distance": "Estimated distance to the goal",
    },
  },
  zh: {
    other: "English", on: "开", off: "关", title: "训练对比", settings: "不同的设置", same: "所有设置都相同。", scores: "得分",
    curvesTitle: "曲线", images: "相同的提示词和随机种子", name: "设置项", run: "训练", image: "图像相似度", text: "文本相似度",
    difference: "差值", step: "步", better: "更好，超出偶然范围", worse: "更差，超出偶然范围", chance: "在偶然范围内",
    unknown: "没有标准误差可用", note: "差值都是与第一次训练相比，并附标准误差。在偶然范围内：只换随机种子，二十次中就有一次差这么多。",
    curves: CURVES_ZH,
  },
};
function render() {
  byId("about").textContent = data.labels.map((label, i) => `${label}: ${data.words[i]}`).join(" · ");
  fill("settings", data.settings.length
    ? table([t("name"), ...data.labels], data.settings.map(([name, values]) => ["", [name, ...values.map(shown)]]))
    : make("p", "", t("same")));
  fill("scores", ...Object.entries(data.scores).map(([kind, rows]) => table(
    [t(kind), "", t("difference")], rows.map((row, i) => ["", [data.labels[i], number(row.score), difference(row)]]))));
  fill("images", ...data.images.map(([prompt, images]) => make("figure", "", null, make("h3", "label", prompt),
    make("div", "row", null, ...images.map((one, i) => captioned(one, data.labels[i]))))));
}
function difference(row) {  // what it means stands below it, so that a narrow screen shows it too
  const verdict = row.verdict ? t(row.verdict) : "";
  const cell = number(row.difference);
  cell.append(make("div", ["better", "worse"].includes(row.verdict) ? "means" : "faint", verdict));
  return cell;
}
begin();
