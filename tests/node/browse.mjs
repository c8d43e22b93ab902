// A real browser that does what standard input says: one JSON list a line, `["go", url]`, `["click", selector]`,
// `["fill", selector, text]`, `["show"]`. Each is answered by one line, `{"status", "url", "title", "text", "scripts"}`.
import { createInterface } from "node:readline";
import chromium from "@sparticuz/chromium";
import puppeteer from "puppeteer-core";

// CHROME names one that the machine has; the bundled one is for Linux on x86-64.
const executablePath = process.env.CHROME ?? (await chromium.executablePath());
// NAMES maps names of hosts to addresses, without a server of names.
const names = process.env.NAMES ? [`--host-resolver-rules=${process.env.NAMES}`] : [];
const args = [...chromium.args, ...names];
const browser = await puppeteer.launch({ args, executablePath, headless: "shell" }).catch((error) => {
  console.error(`the browser did not start; it needs NSS (apt-get install libnss3): ${error}`);
  process.exit(1);
});
const page = await browser.newPage();
let status = 0;
page.on("response", (response) => {
  if (response.request().isNavigationRequest()) status = response.status();
});

const does = {
  go: (url) => page.goto(url),
  click: (selector) => Promise.all([page.waitForNavigation(), page.click(selector)]),
  fill: (selector, text) => page.$eval(selector, (input, text) => { input.value = text; }, text),
  show: () => undefined,
};

for await (const line of createInterface({ input: process.stdin })) {
  const [name, ...words] = JSON.parse(line);
  let said;
  try {
    await does[name](...words);
    said = await page.evaluate(() => ({
      url: location.href,
      title: document.title,
      text: document.body.innerText,
      scripts: document.scripts.length,
    }));
    said.status = status;
  } catch (error) {
    said = { error: String(error) };
  }
  process.stdout.write(JSON.stringify(said) + "\n");
}
await browser.close();
