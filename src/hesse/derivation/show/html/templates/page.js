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
addEventListener("beforeprint", () => {
  for (const details of document.querySelectorAll(".hesse details:not(.code)")) details.open = true;
});
{% include "scrolling.js" %}
