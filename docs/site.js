// For the keyboard and for screen readers: landmarks differ by name, and what scrolls can be focused.
function name() {
  document.querySelectorAll(".md-code__nav").forEach((nav, i) => {
    nav.setAttribute("aria-label", `Code block ${i + 1}`);
  });
}
function focus() {
  document.querySelectorAll(".md-typeset__scrollwrap, .md-typeset pre > code").forEach((box) => {
    if (box.scrollWidth > box.clientWidth) box.tabIndex = 0;
  });
}
let waiting;
new MutationObserver(() => {
  name();
  // Widths are known once the page is laid out.
  clearTimeout(waiting);
  waiting = setTimeout(focus, 50);
}).observe(document.documentElement, { childList: true, subtree: true });
