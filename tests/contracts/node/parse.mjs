// The official AsyncAPI parser reads each document that is named; whatever it has to say, but that a newer version of
// AsyncAPI exists, ends with status 1.
import { readFileSync } from "node:fs";
import { Parser } from "@asyncapi/parser";

const EXPECTED = new Set(["asyncapi-latest-version"]);
const parser = new Parser();
let failed = false;
for (const file of process.argv.slice(2)) {
  const { document, diagnostics } = await parser.parse(readFileSync(file, "utf8"));
  const found = diagnostics.filter((one) => !EXPECTED.has(one.code));
  for (const one of found) console.log(`${file}: ${one.path.join(".")}: ${one.message} (${one.code})`);
  if (document === undefined || found.length > 0) {
    failed = true;
  } else {
    const count = document.operations().all().length;
    console.log(`${file}: AsyncAPI ${document.version()}, ${count} operations, no findings`);
    if (count === 0) failed = true;
  }
}
process.exit(failed || process.argv.length < 3 ? 1 : 0);
