// Runs first in the frame of a report: tells the page around it how tall the report is and where its sections begin, and
// does what that page says of the theme. What the report itself does here, the page around it must not believe.
(() => {
  "use strict";
  for (const name of ["RTCPeerConnection", "webkitRTCPeerConnection", "RTCDataChannel"]) delete window[name];
  const page = window.parent;
  const root = document.documentElement;
  const english = root.lang === "en";
  document.addEventListener("DOMContentLoaded", () => {
    const start = english ? window.initializeAllVisuals_report_en ?? window.initializeAllVisuals_report : window.initializeAllVisuals_report;
    if (typeof start === "function") start();
    if (page === window) return;
    const measure = () => {
      const headings = [...document.querySelectorAll("h2")].slice(0, 12);
      page.postMessage({
        type: "rayfeed:size",
        height: Math.ceil(document.body.getBoundingClientRect().height),
        sections: headings.map((one) => Math.round(one.getBoundingClientRect().top)),
      }, location.origin);
    };
    new ResizeObserver(measure).observe(document.body);
    measure();
  });
  addEventListener("message", (event) => {
    if (event.source !== page || event.origin !== location.origin) return;
    const said = event.data;
    if (typeof said !== "object" || said === null || said.type !== "rayfeed:show") return;
    if (said.theme === "light" || said.theme === "dark") {
      root.dataset.theme = said.theme;
      dispatchEvent(new CustomEvent("themeChanged", { detail: { theme: said.theme } }));
    }
    if (said.language === "vi" || said.language === "en") {
      dispatchEvent(new CustomEvent("reportLanguageChanged", { detail: { language: said.language } }));
    }
  });
  // A frame goes nowhere: the page around it shows where a link leads, and the reader decides.
  document.addEventListener("click", (event) => {
    const link = event.target instanceof Element ? event.target.closest("a[href]") : null;
    if (link === null) return;
    const target = link.getAttribute("href") ?? "";
    event.preventDefault();
    if (target.startsWith("#")) {
      const there = target.length > 1 ? document.getElementById(decodeURIComponent(target.slice(1))) : null;
      if (there === null) return;
      if (page === window) there.scrollIntoView();
      else page.postMessage({ type: "rayfeed:go", top: Math.round(there.getBoundingClientRect().top) }, location.origin);
    } else if (page !== window) page.postMessage({ type: "rayfeed:link", address: target }, location.origin);
  });
})();
