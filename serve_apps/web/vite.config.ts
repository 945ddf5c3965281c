// Builds index.html and 404.html into dist, everything they use hashed under dist/assets and nothing inlined,
// so that the strict Content-Security-Policy of serve_apps/pages.py needs no exception.
import { defineConfig } from "vite";

const backend = "http://127.0.0.1:8080";

export default defineConfig({
  build: {
    target: "es2023",
    assetsInlineLimit: 0,
    modulePreload: { polyfill: false },
    // Names what the pages of reports load, which serve_apps/reports_views.py writes.
    manifest: true,
    rolldownOptions: { input: ["index.html", "404.html", "src/report/report.ts", "src/report/report.css"] },
  },
  plugins: [
    {
      // The script sets the remembered theme: painting before it would flash the other one.
      name: "paint-after-script",
      transformIndexHtml: {
        order: "post",
        handler: (html) => html.replace('<script type="module"', '<script type="module" blocking="render"'),
      },
    },
  ],
  server: { proxy: { "/api": backend, "/readyz": backend } },
});
