// What is too wide for its place scrolls, by keyboard too; only then is it a stop of the Tab key.
const scrolling = new ResizeObserver((entries) => {
  for (const { target: box } of entries) {
    const tall = box.tagName === "PRE" && box.scrollHeight > box.clientHeight;
    if (tall || box.scrollWidth > box.clientWidth) box.tabIndex = 0;
    else box.removeAttribute("tabindex");
  }
});
for (const box of document.querySelectorAll(".formula, pre, .scroll")) scrolling.observe(box);
