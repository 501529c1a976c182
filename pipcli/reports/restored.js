"use strict";
// The slider under a picture says how much of it is shown as it was before.
for (const box of document.querySelectorAll(".compare")) {
  const slider = box.querySelector("input");
  const draw = () => box.style.setProperty("--at", `${slider.value}%`);
  slider.addEventListener("input", draw);
  draw(); // a browser may keep a slider's place when the page is loaded again
}

const form = document.querySelector(".filters");
const filter = () => {
  const word = form.querySelector("[type=search]").value.toLowerCase();
  const states = new Set([...form.querySelectorAll("[type=checkbox]:checked")].map((box) => box.value));
  for (const entry of document.querySelectorAll(".card, tbody tr")) {
    entry.hidden = !states.has(entry.dataset.state) || !entry.dataset.name.toLowerCase().includes(word);
  }
};
form.addEventListener("input", filter);
form.addEventListener("submit", (event) => event.preventDefault());
filter();
document.body.dataset.ready = "yes";
