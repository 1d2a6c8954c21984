// The client: commands and queries of the catalog, each a method.
import { randomUUID } from "node:crypto";
import { hostname } from "node:os";

import { knownType, type Envelope, type Headers, type Reply } from "./envelope.ts";
import { InternalError, RateLimited, Refused, ValidationFailed, type CatalogError } from "./errors.ts";
import { Exchange, type Settlement, type Token } from "./exchange.ts";
import { KINDS, type OutcomeResult } from "./generated.ts";
import { tell, type Counters, type Hooks } from "./hooks.ts";
import type { Kind } from "./kinds.ts";
import { KafkaWire } from "./kafka.ts";
import type { SASL, TLS } from "./security.ts";
import type { Calls, CommandOptions, Iterates, RawCalls, RecordOptions, Records, Sends, UntypedOptions } from "./surface.ts";
import { VERSION } from "./version.ts";
import type { Outgoing, Wire } from "./wire.ts";

export const TIMEOUT_MS = 10_000;
export const MAX_IN_FLIGHT = 10_000;
export const REPEAT_AFTER_MS = 5_000;

export interface ClientOptions {
  /** host:port, one or several. */
  servers: string | readonly string[];
  /** The JWT, or a function, which may be async, that returns it; it is asked at each record. */
  token: Token;
  /** What this application is called: in `user-agent`, and in the name of its reply topic. */
  name: string;
  /** Which of several processes this is; the host's name unless given. A restart finds its own reply topic by it. */
  instance?: string;
  /** The prefix of all topics: `catalog` unless given. */
  prefix?: string;
  /** One that exists; then nothing is made. Several clients may share it. */
  replyTopic?: string;
  /** Delete the reply topic at the end; for a name that no other process uses. */
  deleteOnClose?: boolean;
  tls?: TLS;
  sasl?: SASL;
  /** What a call takes that names none; null: it waits for ever. 10 s unless given. */
  timeoutMs?: number | null;
  /** How many requests may wait for an answer; more wait for one of them. 10,000 unless given. */
  maxInFlight?: number;
  /** When an unanswered command is first repeated. 5 s unless given. */
  repeatAfterMs?: number;
  /** Called with each envelope that ends a call; short for the hook of this name. */
  notify?: NonNullable<Hooks["notify"]>;
  hooks?: Hooks;
  /** What stands in for Kafka; see `catalog-client/testing`. */
  wire?: Wire;
}

const NAME = /^[A-Za-z0-9._-]{1,180}$/;
const MESSAGE_ID = /^[ -~]{1,128}$/;
const USER_AGENT_CHARACTERS = 200;
const OBJECT_LIKE = (value: unknown): value is Record<string, unknown> => typeof value === "object" && value !== null;

/** The methods of `Calls` are put on the prototype below, one for each kind. */
export interface CatalogClient extends Calls {}

/**
 * A caller of the catalog. One is enough for a process, thousands of requests at once:
 *
 *     await using catalog = await CatalogClient.connect({ servers: "kafka:9092", token, name: "billing" });
 *     const customer = await catalog.createCustomer({ name: "Ada", email: "ada@example.com" });
 *
 * An unanswered command is repeated under the same message_id, under which it takes effect at most once. What can go wrong
 * is told in `errors.ts`: everything thrown about a request is a `CatalogError` with a `code`.
 */
export class CatalogClient implements AsyncDisposable {
  /** The same methods, each returning a `Reply`: the envelope, and what its headers say. */
  readonly withRawResponse: RawCalls;
  /** The commands without an answer, and without a reply topic. */
  readonly send: Sends;
  /** The commands as records for your own outbox; nothing is published. */
  readonly record: Records;
  /** The lists, item by item. */
  readonly iterate: Iterates;
  readonly #prefix: string;
  readonly #userAgent: string;
  readonly #timeoutMs: number | null;
  readonly #hooks: Hooks;
  readonly #wire: Wire;
  readonly #exchange: Exchange;
  readonly #deprecated = new Set<string>();
  #closing: Promise<void> | undefined;

  private constructor(options: ClientOptions) {
    const { name, timeoutMs = TIMEOUT_MS, maxInFlight = MAX_IN_FLIGHT, repeatAfterMs = REPEAT_AFTER_MS } = options;
    checkPositive({ timeoutMs: timeoutMs ?? 1, maxInFlight, repeatAfterMs });
    this.#prefix = options.prefix ?? "catalog";
    this.#userAgent = `catalog-client-typescript/${VERSION} ${name}`.slice(0, USER_AGENT_CHARACTERS);
    this.#timeoutMs = timeoutMs;
    this.#hooks = { ...options.hooks, ...(options.notify === undefined ? {} : { notify: options.notify }) };
    const replyTopic = replyTopicOf(options, this.#prefix);
    this.#wire = options.wire ?? new KafkaWire({
      servers: typeof options.servers === "string" ? options.servers.split(",") : options.servers,
      clientId: `catalog-client-${name}`,
      replyTopic,
      makes: options.replyTopic === undefined,
      deletes: options.deleteOnClose === true,
      tls: options.tls,
      sasl: options.sasl,
    });
    this.#exchange = new Exchange(this.#wire, options.token, this.#hooks, maxInFlight, repeatAfterMs);
    const made = surfaceOf({
      reply: (kind, payload, given) => this.#reply(kind, payload, given),
      send: (kind, payload, given) => this.#send(kind, payload, given),
      record: (kind, payload, given) => this.#record(kind, payload, given),
      items: (kind, payload, given) => this.#items(kind, payload, given),
    });
    this.withRawResponse = made.raw;
    this.send = made.send;
    this.record = made.record;
    this.iterate = made.iterate;
  }

  /** Make a client and connect it. Throws NotConnected where that cannot be, TypeError for options that cannot work. */
  static async connect(options: ClientOptions): Promise<CatalogClient> {
    const client = new CatalogClient(options);
    await client.#wire.start();
    return client;
  }

  /** Disconnect. Who still waits for an answer gets a ReplyTimeout. It may be called again. */
  close(): Promise<void> {
    if (this.#closing === undefined) {
      this.#exchange.close();
      this.#closing = this.#wire.stop();
    }
    return this.#closing;
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }

  /** Where replies are read. */
  get replyTopic(): string {
    return this.#wire.replyTopic;
  }

  /** What happened since the client was made. */
  get counters(): Readonly<Counters> {
    return { ...this.#exchange.counters, waiting: this.#exchange.waiting };
  }

  /** Ask what became of a command of this caller: its envelope; null: it is not decided yet, or never was sent. */
  async outcome(messageId: string, options: Omit<CommandOptions, "messageId"> = {}): Promise<OutcomeResult | null> {
    try {
      const reply = await this.#reply(KINDS.getOutcome, { message_id: messageId }, options, false);
      return reply.data as OutcomeResult;
    } catch (error) {
      if (error instanceof Refused && error.code === "OUTCOME_NOT_FOUND") return null;
      throw error;
    }
  }

  /** Ask by the name of a kind, for one that this client has no method for. */
  call(kind: string, payload: unknown, options: UntypedOptions = {}): Promise<Reply> {
    const known = Object.values<Kind>(KINDS).filter((one) => one.kind === kind).at(-1);
    const asked: Kind = {
      kind,
      version: options.version ?? known?.version ?? 1,
      side: options.side ?? known?.side ?? "commands",
      key: known?.key ?? [],
    };
    return this.#reply(asked, payload, options);
  }

  // What the methods stand on ----------------------------------------------------------------------------------------
  async #reply(kind: Kind, payload: unknown, options: UntypedOptions = {}, notifies = true): Promise<Reply> {
    const isCommand = kind.side === "commands";
    const correlationId = this.#exchange.nextCorrelationId();
    const messageId = isCommand ? idOf(options.messageId) : correlationId;
    const timeoutMs = this.#timeoutOf(options);
    const headers = this.#headers(isCommand ? messageId : undefined, {
      correlation_id: correlationId,
      reply_to: this.#wire.replyTopic,
      ...(timeoutMs === null ? {} : { deadline: String(Math.floor(Date.now() + timeoutMs)) }),
    });
    const record = this.#made(kind, payload, messageId, headers, options.key);
    const { token, signal } = options;
    const question = { messageId, correlationId, record, isCommand, timeoutMs, token, signal };
    const { reply, settlement } = await this.#exchange.ask(question);
    this.#warnOf(kind, reply);
    if (notifies) tell(() => this.#hooks.notify?.(reply.message, knownType(reply)));
    return read(messageId, reply, settlement);
  }

  async #send(kind: Kind, payload: unknown, options: CommandOptions = {}): Promise<string> {
    const messageId = idOf(options.messageId);
    const record = this.#made(kind, payload, messageId, this.#headers(messageId), options.key);
    await this.#exchange.send(messageId, record, this.#timeoutOf(options), options.signal);
    return messageId;
  }

  #record(kind: Kind, payload: unknown, options: RecordOptions = {}): Outgoing {
    const messageId = idOf(options.messageId);
    return this.#made(kind, payload, messageId, this.#headers(messageId), options.key);
  }

  async *#items(kind: Kind, payload: object | undefined, options: CommandOptions = {}): AsyncGenerator<unknown, void> {
    for (let cursor: string | null | undefined; cursor !== null; ) {
      const { data } = await this.#reply(kind, cursor === undefined ? payload : { ...payload, cursor }, options);
      const page = data as { items: unknown[]; next_cursor: string | null };
      yield* page.items;
      cursor = page.next_cursor;
    }
  }

  #timeoutOf({ timeoutMs = this.#timeoutMs }: CommandOptions): number | null {
    if (timeoutMs !== null) checkPositive({ timeoutMs });
    return timeoutMs;
  }

  #headers(messageId: string | undefined, more: Headers = {}): Headers {
    const own = { "content-type": "application/json", "user-agent": this.#userAgent };
    return messageId === undefined ? { ...own, ...more } : { ...own, message_id: messageId, ...more };
  }

  #made(kind: Kind, payload: unknown = {}, otherwise: string, headers: Headers, key: string | undefined): Outgoing {
    const body = JSON.stringify({ kind: kind.kind, version: kind.version, payload });
    return { topic: `${this.#prefix}.${kind.side}`, key: key ?? keyOf(kind, payload, otherwise), headers, body };
  }

  #warnOf(kind: Kind, { deprecation, sunset }: Reply): void {
    const name = `${kind.kind} version ${kind.version}`;
    if (deprecation === undefined || this.#deprecated.has(name)) return;
    this.#deprecated.add(name);
    const text = `${name} is deprecated since ${deprecation}, and may be refused from ${sunset ?? "then"} on`;
    process.emitWarning(text, { type: "DeprecationWarning" });
  }
}

interface Ways {
  reply(kind: Kind, payload: unknown, options?: UntypedOptions): Promise<Reply>;
  send(kind: Kind, payload: unknown, options?: CommandOptions): Promise<string>;
  record(kind: Kind, payload: unknown, options?: RecordOptions): Outgoing;
  items(kind: Kind, payload: object | undefined, options?: CommandOptions): AsyncGenerator<unknown, void>;
}

type Method = (payload?: object, options?: object) => unknown;

/** One function for each kind and way. Their types are of the contract; that they are the same is what a test compares. */
function surfaceOf(ways: Ways): { raw: RawCalls; send: Sends; record: Records; iterate: Iterates } {
  const made = { raw: {}, send: {}, record: {}, iterate: {} } as Record<string, Record<string, Method>>;
  for (const [name, kind] of Object.entries<Kind>(KINDS)) {
    made["raw"]![name] = (payload, options) => ways.reply(kind, payload, options);
    if (kind.isList === true) made["iterate"]![name] = (payload, options) => ways.items(kind, payload, options);
    if (kind.side !== "commands") continue;
    made["send"]![name] = (payload, options) => ways.send(kind, payload, options);
    made["record"]![name] = (payload, options) => ways.record(kind, payload, options);
  }
  return made as unknown as ReturnType<typeof surfaceOf>;
}

for (const name of Object.keys(KINDS)) {
  Object.defineProperty(CatalogClient.prototype, name, {
    value: async function call(this: CatalogClient, ...given: unknown[]) {
      const raw = this.withRawResponse as unknown as Record<string, (...given: unknown[]) => Promise<Reply>>;
      return (await raw[name]!(...given)).data;
    },
  });
}

function read(messageId: string, reply: Reply, settlement: Settlement | undefined): Reply {
  if (isRefusal(reply)) throw refusalOf(messageId, reply, settlement);
  return { ...reply, messageId };
}

function isRefusal({ type, statusCode }: Envelope): boolean {
  return type === "error" || statusCode >= 400;
}

function refusalOf(messageId: string, envelope: Envelope, settlement: Settlement | undefined): CatalogError {
  const code = OBJECT_LIKE(envelope.data) ? envelope.data["error_code"] : undefined;
  if (settlement !== undefined) {
    const later = async (timeoutMs: number | null): Promise<Reply> =>
      read(messageId, await settlement.answer(timeoutMs), undefined);
    return new InternalError(messageId, envelope, later);
  }
  if (code === "RATE_LIMITED") return new RateLimited(messageId, envelope);
  if (code === "VALIDATION_FAILED") return new ValidationFailed(messageId, envelope);
  return new Refused(messageId, envelope);
}

function keyOf(kind: Kind, payload: unknown, otherwise: string): string {
  for (const path of kind.key) {
    let value: unknown = payload;
    for (const part of path.split(".")) value = OBJECT_LIKE(value) ? value[part] : undefined;
    if (value !== undefined && value !== null) return String(value);
  }
  return otherwise;
}

function idOf(messageId: string = randomUUID()): string {
  if (MESSAGE_ID.test(messageId)) return messageId;
  throw new TypeError(`messageId: 1 to 128 printable ASCII characters, not ${JSON.stringify(messageId)}`);
}

function replyTopicOf({ name, instance, replyTopic, deleteOnClose }: ClientOptions, prefix: string): string {
  if (!NAME.test(name)) throw new TypeError(`name: letters, digits, '.', '_' and '-' of ASCII, not ${JSON.stringify(name)}`);
  const begin = `${prefix}.replies.`;
  if (replyTopic === undefined) {
    const own = `${name}-${instance ?? hostname().replace(/[^A-Za-z0-9._-]/g, "-")}`;
    if (!NAME.test(own)) throw new TypeError(`instance: what a topic may be called, not ${JSON.stringify(instance)}`);
    return begin + own;
  }
  if (deleteOnClose === true) throw new TypeError("a replyTopic that is given is not deleted: leave deleteOnClose out");
  if (!replyTopic.startsWith(begin) || !NAME.test(replyTopic.slice(begin.length))) {
    throw new TypeError(`replyTopic: '${begin}<name>', not ${JSON.stringify(replyTopic)}`);
  }
  return replyTopic;
}

function checkPositive(numbers: Readonly<Record<string, number>>): void {
  for (const [name, number] of Object.entries(numbers)) {
    if (!(number > 0)) throw new TypeError(`${name}: more than 0, not ${number}`);
  }
}
