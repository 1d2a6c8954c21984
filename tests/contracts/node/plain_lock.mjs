// Takes the addresses out of a package-lock.json: it pins by version and hash alone.
import { readFileSync, writeFileSync } from "node:fs";

const file = process.argv[2];
const lock = JSON.parse(readFileSync(file, "utf8"));
for (const one of Object.values(lock.packages)) {
  for (const name of ["resolved", "funding", "deprecated"]) delete one[name];
}
writeFileSync(file, JSON.stringify(lock, null, 2) + "\n");
