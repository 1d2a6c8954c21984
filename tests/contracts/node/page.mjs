// Opens a page in headless Chromium, on a phone and on a desk: nothing scrolls sideways, no other host is asked, the
// console stays empty, and axe-core finds nothing serious. Arguments: the page's address, and a folder for screenshots.
import { createRequire } from "node:module";
import { existsSync, readFileSync } from "node:fs";
import { delimiter, join } from "node:path";
import { chromium } from "playwright-core";

const NAMES = ["chromium", "chromium-browser", "google-chrome", "google-chrome-stable"];
const places = (process.env.PATH ?? "").split(delimiter).flatMap((folder) => NAMES.map((name) => join(folder, name)));
const executablePath = [process.env.CHROMIUM ?? "", ...places].find((path) => path !== "" && existsSync(path));
if (executablePath === undefined) {
  console.error("Chromium was not found: install it, or name it in CHROMIUM");
  process.exit(1);
}

const [address, folder] = process.argv.slice(2);
const axe = readFileSync(createRequire(import.meta.url).resolve("axe-core/axe.min.js"), "utf8");
const browser = await chromium.launch({ executablePath, args: ["--no-sandbox"] });
const problems = [];
for (const width of [390, 1280]) {
  const context = await browser.newContext({ viewport: { width, height: 900 } });
  const page = await context.newPage();
  page.on("console", (said) => problems.push(`${width}: console: ${said.text()}`));
  page.on("pageerror", (error) => problems.push(`${width}: ${error.message}`));
  page.on("request", (request) => {
    if (request.url().startsWith("data:")) return;
    if (new URL(request.url()).host !== new URL(address).host) problems.push(`${width}: asks for ${request.url()}`);
  });
  const answer = await page.goto(address);
  if (answer?.status() !== 200) problems.push(`${width}: status ${answer?.status()}`);
  const [wide, room] = await page.evaluate(() => [document.documentElement.scrollWidth, window.innerWidth]);
  if (wide > room) problems.push(`${width}: scrolls sideways, ${wide} of ${room} pixels`);
  await page.screenshot({ path: join(folder, `page-${width}.png`) });
  await page.locator("section").nth(7).scrollIntoViewIfNeeded();
  await page.screenshot({ path: join(folder, `page-${width}-kind.png`) });
  // What the page itself may not load, the check brings along: by the debugger, past the page's policy.
  await page.evaluate(axe);
  const { violations } = await page.evaluate(() => window.axe.run());
  for (const one of violations) {
    const text = `${width}: axe: ${one.id} (${one.impact}): ${one.help}: ${one.nodes[0].html.slice(0, 200)}`;
    if (["serious", "critical"].includes(one.impact ?? "")) problems.push(text);
    else console.log(text);
  }
  if (width === 1280) await page.pdf({ path: join(folder, "page.pdf") });
  await context.close();
}
await browser.close();
for (const problem of problems) console.error(problem);
console.log(`${address}: ${problems.length || "no"} problems; screenshots are in ${folder}`);
process.exit(problems.length > 0 ? 1 : 0);
