// The page for addresses where there is none: in the reader's language and theme.
import { startLanguage } from "./language.ts";
import { read } from "./storage.ts";

startLanguage();
const theme = read("theme");
if (theme === "light" || theme === "dark") document.documentElement.dataset["theme"] = theme;
