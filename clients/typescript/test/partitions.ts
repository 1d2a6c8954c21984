// Reads keys from stdin, one JSON text a line, and writes the partition of 12 of each, as the client's producer chooses it.
import { createInterface } from "node:readline";

import { compatibilityPartitioner } from "@platformatic/kafka";

for await (const line of createInterface({ input: process.stdin })) {
  const key = Buffer.from(JSON.parse(line) as string);
  console.log(compatibilityPartitioner({ topic: "" }, key) % 12);
}
