"use strict";
for (const button of document.querySelectorAll(".copy")) {
  const text = button.textContent;
  button.hidden = false;
  button.addEventListener("click", async () => {
    // Not what other readings say.
    const code = button.nextElementSibling.innerText;
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
// Without a script the shape of an array is told at the foot of the window, with one beside it.
document.addEventListener("pointerover", (event) => {
  const array = event.target.closest?.("[data-a]");
  const formula = array?.closest(".formula");
  if (!formula) return;
  const box = array.getBoundingClientRect();
  const left = box.left < innerWidth / 2;
  formula.style.setProperty("--tip-left", left ? Math.max(4, box.left) + "px" : "auto");
  formula.style.setProperty("--tip-right", left ? "auto" : Math.max(4, innerWidth - box.right) + "px");
  formula.style.setProperty("--tip-bottom", Math.min(innerHeight - 32, innerHeight - box.top + 4) + "px");
});
addEventListener("beforeprint", () => {
  for (const details of document.querySelectorAll(".hesse details:not(.code)")) details.open = true;
});
{% include "scrolling.js" %}
