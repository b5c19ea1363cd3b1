"use strict";
for (const button of document.querySelectorAll(".copy")) {
  const text = button.textContent;
  button.hidden = false;
  button.addEventListener("click", async () => {
    const code = button.nextElementSibling.textContent;
    try {
      await navigator.clipboard.writeText(code);
    } catch {
      // A page opened from a file may not write to the clipboard that way.
      const area = document.createElement("textarea");
      area.value = code;
      document.body.append(area);
      area.select();
      document.execCommand("copy");
      area.remove();
    }
    button.textContent = "Copied";
    setTimeout(() => { button.textContent = text; }, 1500);
  });
}
const tip = document.getElementById("tip");
for (const part of document.querySelectorAll(".part[title]")) part.removeAttribute("title");
document.addEventListener("pointerover", (event) => {
  const array = event.target.closest?.("[data-shape]");
  tip.hidden = !array;
  if (!array) return;
  tip.textContent = array.dataset.shape;
  const box = array.getBoundingClientRect();
  tip.style.left = Math.max(4, Math.min(box.left, innerWidth - tip.offsetWidth - 4)) + "px";
  tip.style.top = Math.max(4, box.top - tip.offsetHeight - 4) + "px";
});
addEventListener("beforeprint", () => {
  for (const details of document.querySelectorAll(".hesse details:not(.code)")) details.open = true;
});
