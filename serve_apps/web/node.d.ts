// What vite.config.ts uses of Node, whose types are not installed for two functions.
declare module "node:fs" {
  export function readFileSync(path: URL, encoding: "utf8"): string;
}
interface ImportMeta {
  readonly url: string;
}
