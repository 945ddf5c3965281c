// The pages of reports: theme and language that are remembered, and the frame in which a report shows itself. What the
// frame says is from whoever wrote the report: it is looked at and kept within bounds, never believed. Loaded as a plain
// script before anything is painted, so that the remembered theme is the first one seen; so it imports nothing.

const THEME = "theme";
const LANGUAGE = "preferred_language";
const YEAR_S = 31_536_000;
const TALLEST = 100_000;

{
  const root = document.documentElement;
  const system = matchMedia("(prefers-color-scheme: dark)");
  let shown: { tops: number[] } = { tops: [] };

  const read = (key: string): string | null => {
    try {
      return localStorage.getItem(key);
    } catch {
      return null; // forbidden
    }
  };
  const write = (key: string, value: string): void => {
    try {
      localStorage.setItem(key, value);
    } catch {
      // forbidden or full
    }
  };

  const theme = (): "light" | "dark" => {
    const chosen = read(THEME);
    return chosen === "light" || chosen === "dark" ? chosen : system.matches ? "dark" : "light";
  };
  const rememberLanguage = (language: string): void => {
    document.cookie = `${LANGUAGE}=${language}; Path=/; Max-Age=${YEAR_S}; SameSite=Lax`;
    write(LANGUAGE, language);
  };
  root.dataset["theme"] = theme();

  // Who came by an address with a language goes on in that language.
  if (new URLSearchParams(location.search).has("lang") && !document.cookie.includes(`${LANGUAGE}=`)) {
    rememberLanguage(root.lang);
  }

  const begin = (): void => {
    const frame = document.querySelector<HTMLIFrameElement>("#report");
    const tell = (): void => {
      // A frame whose origin is nobody's can be told in no other way than "*"; this is nothing that must stay secret.
      frame?.contentWindow?.postMessage({ type: "rayfeed:show", theme: theme(), language: root.lang }, "*");
    };
    const apply = (): void => {
      root.dataset["theme"] = theme();
      tell();
    };

    system.addEventListener("change", apply);
    addEventListener("storage", apply);
    document.querySelector("#theme")?.addEventListener("click", () => {
      write(THEME, theme() === "dark" ? "light" : "dark");
      apply();
    });
    document.querySelector<HTMLElement>("#language")?.addEventListener("click", (event) => {
      event.preventDefault();
      const language = (event.currentTarget as HTMLElement).dataset["language"];
      if (language !== "vi" && language !== "en") return;
      rememberLanguage(language);
      const address = new URL(location.href);
      address.searchParams.delete("lang");
      if (address.href === location.href) location.reload();
      else location.replace(address);
    });
    if (frame !== null) follow(frame, tell);
  };

  const follow = (frame: HTMLIFrameElement, tell: () => void): void => {
    const links = [...document.querySelectorAll<HTMLAnchorElement>("#contents a")];
    const progress = document.querySelector<HTMLProgressElement>("#progress");
    const contents = document.querySelector<HTMLDetailsElement>("details.contents");
    if (contents !== null && matchMedia("(max-width: 64rem)").matches) contents.open = false;

    const top = (): number => frame.getBoundingClientRect().top + scrollY;
    const go = (offset: number): void => {
      const calm = matchMedia("(prefers-reduced-motion: reduce)").matches;
      scrollTo({ top: top() + offset - 72, behavior: calm ? "auto" : "smooth" });
    };
    const scrolled = (): void => {
      const start = top();
      const length = Math.max(1, start + frame.offsetHeight - innerHeight);
      if (progress !== null) progress.value = Math.min(1, Math.max(0, scrollY / length));
      const at = shown.tops.findLastIndex((one) => start + one - 120 <= scrollY);
      links.forEach((link, index) => {
        if (index === at) link.setAttribute("aria-current", "true");
        else link.removeAttribute("aria-current");
      });
    };

    addEventListener("scroll", scrolled, { passive: true });
    addEventListener("resize", scrolled);
    frame.addEventListener("load", tell);
    tell();
    for (const link of links) {
      link.addEventListener("click", (event) => {
        event.preventDefault();
        const offset = shown.tops[Number(link.dataset["section"])];
        if (offset !== undefined) go(offset);
      });
    }
    addEventListener("message", (event: MessageEvent<unknown>) => {
      // "null" is what the origin of a sandboxed frame is called.
      if (event.source !== frame.contentWindow || event.origin !== "null") return;
      const said = event.data;
      if (typeof said !== "object" || said === null || !("type" in said)) return;
      if (said.type === "rayfeed:size" && "height" in said && isOffset(said.height)) {
        const tops = "sections" in said && Array.isArray(said.sections) ? said.sections.slice(0, 12).filter(isOffset) : [];
        shown = { tops };
        frame.style.height = `${said.height}px`;
        scrolled();
      } else if (said.type === "rayfeed:go" && "top" in said && isOffset(said.top)) go(said.top);
      else if (said.type === "rayfeed:link" && "address" in said && typeof said.address === "string") offer(said.address);
    });
  };

  const isOffset = (value: unknown): value is number =>
    typeof value === "number" && Number.isFinite(value) && value >= 0 && value <= TALLEST;

  /** Shows where a link in the report leads; the reader decides whether to go there. */
  const offer = (address: string): void => {
    const bar = document.querySelector<HTMLElement>("#link");
    const link = bar?.querySelector("a");
    if (!bar || !link || address.length > 2000 || !/^https?:\/\//i.test(address)) return;
    const target = URL.parse(address);
    if (target === null) return;
    link.href = target.href;
    link.textContent = target.href.length > 90 ? `${target.href.slice(0, 89)}…` : target.href;
    bar.hidden = false;
    bar.querySelector("button")?.addEventListener("click", () => (bar.hidden = true), { once: true });
  };

  if (document.readyState === "loading") document.addEventListener("DOMContentLoaded", begin);
  else begin();
}
