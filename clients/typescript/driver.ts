// Performs rows of the table of scenarios by the TypeScript client: rows on stdin, what came of them on stdout.
// The protocol stands at the head of `clients/scenarios.json`.
import { readFileSync } from "node:fs";
import { createInterface } from "node:readline";
import { setTimeout as sleep } from "node:timers/promises";
import { inspect } from "node:util";

import {
  CatalogClient,
  CatalogError,
  InternalError,
  NotSent,
  Refused,
  ReplyTimeout,
  type ClientOptions,
  type Counters,
  type Reply,
  type SASL,
} from "./src/index.ts";
import { FakeCatalog, type Answer } from "./src/testing.ts";

interface Step {
  do: string;
  kind: string;
  version?: number;
  payload: Record<string, unknown>;
  message_id?: string;
  timeout_s?: number;
  times?: number;
  own: string;
  background?: boolean;
  untyped?: boolean;
  of: number;
  counter: keyof typeof COUNTERS;
  least: number;
  act: string;
}

interface Scripted { envelope: Reply; headers?: Record<string, string>; after_s?: number }

interface Row {
  name: string;
  steps: Step[];
  script?: Scripted[][];
  repeat_after_s?: number;
  client?: {
    servers: string;
    prefix: string;
    name: string;
    instance: string;
    tokens: string[];
    reply_topic?: string;
    repeat_after_s?: number;
    tls?: { ca_file: string };
    sasl?: SASL;
  };
}

type Method = (payload: object, options: object) => Promise<unknown>;

const COUNTERS = {
  sent: "sent",
  repeated: "repeated",
  answered: "answered",
  timed_out: "timedOut",
  late: "late",
  duplicate: "duplicate",
} as const satisfies Record<string, keyof Counters>;

const lines = createInterface({ input: process.stdin })[Symbol.asyncIterator]();

function write(line: object): void {
  process.stdout.write(`${JSON.stringify(line)}\n`);
}

function camel(kind: string): string {
  return kind.replace(/_(\w)/g, (_, letter: string) => letter.toUpperCase());
}

function optionsOf({ message_id: messageId, timeout_s }: Step): object {
  return {
    ...(messageId === undefined ? {} : { messageId }),
    ...(timeout_s === undefined ? {} : { timeoutMs: timeout_s * 1000 }),
  };
}

function method(place: object, step: Step): Method {
  const known = (place as Record<string, Method | undefined>);
  const found = (step.version === undefined ? undefined : known[`${camel(step.kind)}V${step.version}`]) ?? known[camel(step.kind)];
  if (found === undefined) throw new Error(`no method for ${step.kind}`);
  return found;
}

function answered(reply: Reply): object {
  const { statusCode, type, message, data, replayed, deprecation = null } = reply;
  return { status_code: statusCode, type, message, data, replayed, deprecation };
}

function failed(error: CatalogError): object {
  const told = { repeatable: error.repeatable, message_id: error.messageId };
  if (error instanceof ReplyTimeout) return { ...told, error: "timeout" };
  if (error instanceof NotSent) return { ...told, error: "not_sent" };
  if (!(error instanceof Refused)) throw error;
  const { statusCode: status_code, code: error_code, message, details } = error;
  const refused = { ...told, error: "refused", status_code, error_code, message, details };
  return error instanceof InternalError ? { ...refused, incident: error.incident, parked: error.parked } : refused;
}

/** One row, on one client. */
class Performance {
  readonly #row: Row;
  readonly #catalog: CatalogClient;
  readonly #errors = new Map<number, unknown>();

  constructor(row: Row, catalog: CatalogClient) {
    this.#row = row;
    this.#catalog = catalog;
  }

  async results(): Promise<unknown[]> {
    const found: unknown[] = [];
    for (const [number, step] of this.#row.steps.entries()) {
      const result = this.#step(number, step);
      result.catch(() => undefined); // told at the end of the row
      found.push(step.background === true ? result : await result);
    }
    return Promise.all(found);
  }

  async #step(number: number, step: Step): Promise<unknown> {
    const catalog = this.#catalog;
    switch (step.do) {
      case "call":
        return step.times === undefined ? this.#call(number, step) : this.#many(step, step.times);
      case "send":
        return { message_id: await method(catalog.send, step)(step.payload, optionsOf(step)) };
      case "record": {
        const { topic, key, headers, body } = catalog.record.createCustomer(step.payload as never, optionsOf(step));
        return { topic, key, headers, body: JSON.parse(body) as unknown };
      }
      case "outcome": {
        const outcome = await catalog.outcome(step.message_id ?? "");
        if (outcome === null) return null;
        const { statusCode: status_code, type, message, data } = outcome;
        return { status_code, type, message, data };
      }
      case "settled": {
        const error = this.#errors.get(step.of);
        if (!(error instanceof InternalError)) throw new Error(`step ${step.of} ended with ${String(error)}`);
        return error.settled((step.timeout_s ?? 10) * 1000).catch((later: CatalogError) => failed(later));
      }
      case "counter": {
        const name = COUNTERS[step.counter];
        for (const until = Date.now() + (step.timeout_s ?? 10) * 1000; catalog.counters[name] < step.least; await sleep(20)) {
          if (Date.now() > until) throw new Error(`${name}: ${catalog.counters[name]}`);
        }
        return catalog.counters[name];
      }
      case "act":
        write({ row: this.#row.name, act: step.act });
        await lines.next();
        return null;
      default:
        throw new Error(`no such step: ${step.do}`);
    }
  }

  #reply(step: Step): Promise<Reply> {
    if (step.untyped === true) return this.#catalog.call(step.kind, step.payload, optionsOf(step));
    return method(this.#catalog.withRawResponse, step)(step.payload, optionsOf(step)) as Promise<Reply>;
  }

  async #call(number: number, step: Step): Promise<unknown> {
    try {
      return answered(await this.#reply(step));
    } catch (error) {
      this.#errors.set(number, error);
      if (error instanceof CatalogError) return failed(error);
      throw error;
    }
  }

  async #many(step: Step, times: number): Promise<object> {
    const text = JSON.stringify(step);
    const steps = Array.from({ length: times }, (_, number) => JSON.parse(text.replaceAll("{n}", String(number))) as Step);
    const ended = await Promise.allSettled(steps.map((one) => this.#reply(one)));
    const counts = { answered: 0, own: 0, timed_out: 0 };
    const refused: Record<string, number> = {};
    for (const [number, end] of ended.entries()) {
      if (end.status === "fulfilled") {
        counts.answered += 1;
        const data = end.value.data as Record<string, unknown>;
        if (data[step.own] === steps[number]?.payload[step.own]) counts.own += 1;
      } else if (end.reason instanceof Refused) {
        refused[end.reason.code] = (refused[end.reason.code] ?? 0) + 1;
      } else if (end.reason instanceof ReplyTimeout) {
        counts.timed_out += 1;
      } else {
        throw end.reason;
      }
    }
    return { ...counts, refused };
  }
}

function scripted({ envelope, headers = {}, after_s = 0 }: Scripted): Answer {
  const { data, statusCode, type, message } = envelope;
  return { data, statusCode, type, message, headers, afterMs: after_s * 1000 };
}

/** The client that a row asks for. */
function clientOf(row: Row): Promise<CatalogClient> {
  const wait = row.repeat_after_s ?? row.client?.repeat_after_s;
  const repeat = wait === undefined ? {} : { repeatAfterMs: wait * 1000 };
  if (row.client === undefined) {
    const fake = new FakeCatalog();
    fake.answerAll((row.script ?? []).map((replies) => replies.map(scripted)));
    return fake.connect(repeat);
  }
  const { servers, prefix, name, instance, tokens, reply_topic: replyTopic, tls, sasl } = row.client;
  const options: ClientOptions = {
    servers,
    prefix,
    name,
    instance,
    token: () => (tokens.length > 1 ? tokens.shift() : tokens[0]) ?? "",
    ...(replyTopic === undefined ? {} : { replyTopic }),
    ...(tls === undefined ? {} : { tls: { ca: readFileSync(tls.ca_file) } }),
    ...(sasl === undefined ? {} : { sasl }),
    ...repeat,
  };
  return CatalogClient.connect(options);
}

async function perform(row: Row): Promise<object> {
  try {
    await using catalog = await clientOf(row);
    const results = await new Performance(row, catalog).results();
    const counted = Object.entries(COUNTERS).map(([told, name]) => [told, catalog.counters[name]]);
    return { row: row.name, results, counters: Object.fromEntries(counted) as object };
  } catch (error) {
    return { row: row.name, failed: inspect(error) };
  }
}

for (let line = await lines.next(); line.done !== true; line = await lines.next()) {
  write(await perform(JSON.parse(line.value) as Row));
}
