// Builds each page into dist, everything it uses hashed under dist/assets and nothing inlined, so that the strict
// Content-Security-Policy of serve_apps/pages.py needs no exception. Pages are written with `<!-- header -->` and the
// like for what all of them have, and name their texts (`data-text`): the English ones are filled in here, and the
// script puts those of the reader's language in their place.
import { readFileSync } from "node:fs";
import { defineConfig, type Plugin } from "vite";
import { en } from "./src/texts/en.ts";

const backend = "http://127.0.0.1:8080";
const ATTRIBUTES: Readonly<Record<string, string>> = { "data-label": "aria-label", "data-title": "title", "data-placeholder": "placeholder" };

function told(key: string): string {
  const text = (en as Readonly<Record<string, string>>)[key];
  if (text === undefined) throw new Error(`There is no text ${key}.`);
  return text.replaceAll("&", "&amp;").replaceAll('"', "&quot;").replaceAll("<", "&lt;");
}

const texts: Plugin = {
  name: "texts",
  transformIndexHtml: {
    order: "pre",
    handler: (html, { filename }) => {
      const page = `href="/${filename.replace(/^.*\/|\.html$/g, "").replace("index", "")}"`;
      return html
        .replace(/ *<!-- (\w+) -->\n/g, (_, part: string) => readFileSync(new URL(`partials/${part}.html`, import.meta.url), "utf8"))
        .replace(new RegExp(`(<nav class="pages"[^]*?)${page}`), `$1${page} aria-current="page"`)
        .replace(/(<title>|content="){([\w.]+)}/g, (_, before: string, key: string) => before + told(key))
        .replace(/(data-label|data-title|data-placeholder)="([\w.]+)"/g, (whole, name: string, key: string) => `${whole} ${ATTRIBUTES[name]}="${told(key)}"`)
        .replace(/(data-text="([\w.]+)"[^>]*>)(?=<\/)/g, (_, tag: string, key: string) => tag + told(key));
    },
  },
};

// The script takes the remembered theme and language: painting before it would flash the others.
const paintAfterScript: Plugin = {
  name: "paint-after-script",
  transformIndexHtml: {
    order: "post",
    handler: (html) => html.replace('<script type="module"', '<script type="module" blocking="render"'),
  },
};

export default defineConfig({
  build: {
    target: "es2024",
    assetsInlineLimit: 0,
    modulePreload: { polyfill: false },
    // Names what the pages of reports load, which serve_apps/reports_views.py writes.
    manifest: true,
    rolldownOptions: {
      input: ["index.html", "chart.html", "operations.html", "404.html", "src/report/report.ts", "src/report/report.css"],
    },
  },
  plugins: [texts, paintAfterScript],
  server: { proxy: { "/api": backend, "/readyz": backend, "/cache-stats": backend, "/ws": { target: backend, ws: true } } },
});
