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
