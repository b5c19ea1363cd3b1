// For the keyboard and for screen readers: what scrolls can be focused, and landmarks differ by name.
function name() {
  document.querySelectorAll(".md-code__nav").forEach((nav, i) => {
    nav.setAttribute("aria-label", `Code block ${i + 1}`);
  });
  document.querySelectorAll(".md-typeset__scrollwrap, .md-typeset pre > code").forEach((box) => {
    if (box.scrollWidth > box.clientWidth) box.tabIndex = 0;
  });
}
let waiting;
new MutationObserver(() => {
  clearTimeout(waiting);
  waiting = setTimeout(name, 50);
}).observe(document.documentElement, { childList: true, subtree: true });
