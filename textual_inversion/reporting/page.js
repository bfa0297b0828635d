
"use strict";
const data = JSON.parse(document.getElementById("data").textContent);
const byId = (id) => document.getElementById(id);
let language = "en";
function stored(name, value) {  // pages from files may have no storage
  try {
    if (value !== undefined) localStorage.setItem(name, value);
    return localStorage.getItem(name);
  } catch { return null; }
}
function t(key) { return TEXTS[language][key] ?? TEXTS.en[key] ?? key; }
function make(tag, className, text, ...children) {
  const element = document.createElement(tag);
  if (className) element.className = className;
  if (text !== undefined && text !== null) element.textContent = text;
  element.append(...children);
  return element;
}
function image(address, caption) {
  const picture = make("img");
  picture.src = address;
  picture.alt = caption ?? "";
  picture.loading = "lazy";
  return picture;
}
function captioned(address, caption) {
  return make("figure", "", null, image(address, caption), make("figcaption", "", caption));
}
function shown(value) {
  if (value === null || value === undefined || value === "") return "–";
  if (value === true || value === false) return t(value ? "on" : "off");
  return Array.isArray(value) ? value.map(shown).join(", ") : String(value);
}
function table(head, rows) {
  const body = make("tbody");
  for (const [className, cells] of rows) {
    const row = make("tr", className);
    for (const cell of cells) row.append(cell instanceof Node ? cell : make("td", "", cell));
    body.append(row);
  }
  const top = make("tr");
  for (const text of head) top.append(make("th", "", text));
  return make("div", "scroll", null, make("table", "", null, make("thead", "", null, top), body));
}
function number(text, className) { return make("td", `number ${className ?? ""}`, text); }
function fill(id, ...children) {
  byId(id).replaceChildren(...children);
  const section = byId(id).closest("section");
  if (section) section.hidden = !children.length;
}
function show() {
  document.documentElement.lang = language === "zh" ? "zh-CN" : "en";
  for (const element of document.querySelectorAll("[data-text]")) element.textContent = t(element.dataset.text);
  for (const element of document.querySelectorAll("[data-curve]")) {
    element.textContent = TEXTS[language].curves[element.dataset.curve] ?? element.dataset.curve;
  }
  byId("language").textContent = t("other");
  render();
}
function begin() {
  const wanted = stored("language") ?? (navigator.language.startsWith("zh") ? "zh" : "en");
  language = wanted === "zh" ? "zh" : "en";
  byId("language").addEventListener("click", () => {
    language = language === "en" ? "zh" : "en";
    stored("language", language);
    show();
  });
  show();
}
