document.getElementById("rayfeed-print").addEventListener("click", () => window.print());
