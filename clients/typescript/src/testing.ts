// A double of the catalog for your tests: the real client, with scripted answers in the place of Kafka.
//
//     const fake = new FakeCatalog();
//     fake.answer("create_customer", { id: "…", name: "Ada" }, { statusCode: 201 });
//     await using catalog = await fake.connect();
//     await catalog.createCustomer({ name: "Ada", email: "ada@example.com" });
//     assert.equal(fake.received[0].payload.name, "Ada");
//
// Ids, deadlines, repetitions, time-outs and decoding are those of the real client.
import { CatalogClient, type ClientOptions } from "./client.ts";
import type { Headers } from "./envelope.ts";
import { ERRORS, type ErrorCode } from "./generated.ts";
import { NotTaken, type Incoming, type Outgoing, type Wire } from "./wire.ts";

/** A reply, so long after the request. */
export interface Answer {
  data?: unknown;
  statusCode?: number;
  type?: string;
  message?: string;
  headers?: Headers;
  afterMs?: number;
}

/** A record that the client published. */
export interface Received {
  kind: string;
  version: number;
  payload: Record<string, unknown>;
  headers: Headers;
  record: Outgoing;
}

/** Answers what it was told to; a kind that it was told nothing about fails the call at once. */
export class FakeCatalog implements Wire {
  readonly replyTopic: string;
  /** Every record, repetitions too. */
  readonly received: Received[] = [];
  readonly #prefix: string;
  readonly #answers = new Map<string, Answer[][]>();
  #script: Answer[][] | undefined;
  #onReply: ((reply: Incoming) => void) | undefined;
  #onLost: () => void = () => undefined;

  constructor(prefix = "catalog") {
    this.#prefix = prefix;
    this.replyTopic = `${prefix}.replies.fake`;
  }

  /** Make a client of it; takes the options of `CatalogClient.connect`. */
  connect(options: Partial<ClientOptions> = {}): Promise<CatalogClient> {
    const { replyTopic } = this;
    return CatalogClient.connect({ servers: "", token: "fake", name: "fake", prefix: this.#prefix, ...options, wire: this, replyTopic });
  }

  /** Answer a request of this kind so. Told several times: one after the other, the last one for ever. */
  answer(kind: string, data: unknown = null, how: Omit<Answer, "data"> = {}): void {
    this.#add(kind, [{ data, ...how }]);
  }

  /** Refuse a request of this kind. */
  refuse(kind: string, code: ErrorCode, details: Readonly<Record<string, unknown>> = {}, message = "Refused"): void {
    const data = { error_code: code, details };
    this.#add(kind, [{ data, statusCode: ERRORS[code].statusCode, type: "error", message }]);
  }

  /** Leave a request of this kind unanswered. */
  ignore(kind: string): void {
    this.#add(kind, []);
  }

  /** Answer the n-th record, whatever it is, by the n-th list of replies; beyond its end nothing. */
  answerAll(answers: readonly (readonly Answer[])[]): void {
    this.#script = answers.map((one) => [...one]);
  }

  /** Tell the client that a connection broke. */
  loseConnection(): void {
    this.#onLost();
  }

  // In the place of Kafka --------------------------------------------------------------------------------------------
  async start(): Promise<void> {}

  async stop(): Promise<void> {
    this.#onReply = undefined;
  }

  async listen(onReply: (reply: Incoming) => void, onLost: () => void): Promise<void> {
    this.#onReply = onReply;
    this.#onLost = onLost;
  }

  async publish(record: Outgoing): Promise<void> {
    const body = JSON.parse(record.body) as Pick<Received, "kind" | "version" | "payload">;
    const answers = this.#next(body.kind);
    this.received.push({ ...body, headers: record.headers, record });
    if (!("reply_to" in record.headers)) return;
    for (const one of answers) setTimeout(() => this.#deliver(record.headers, body.kind, one), one.afterMs ?? 0);
  }

  #add(kind: string, answers: Answer[]): void {
    this.#answers.set(kind, [...(this.#answers.get(kind) ?? []), answers]);
  }

  #next(kind: string): readonly Answer[] {
    if (this.#script !== undefined) return this.#script.shift() ?? [];
    const answers = this.#answers.get(kind);
    if (answers === undefined) throw new NotTaken(`FakeCatalog was not told how to answer ${kind}: fake.answer("${kind}", …)`, true);
    return (answers.length > 1 ? answers.shift() : answers[0]) ?? [];
  }

  #deliver(asked: Headers, kind: string, answer: Answer): void {
    const correlationId = asked["correlation_id"] ?? "";
    const headers: Record<string, string> = { correlation_id: correlationId, kind, "content-type": "application/json" };
    if (asked["message_id"] !== undefined) headers["in_reply_to"] = asked["message_id"];
    const { data = null, statusCode = 200, type = "success", message = "Done" } = answer;
    const body = new TextEncoder().encode(JSON.stringify({ statusCode, message, type, data }));
    this.#onReply?.({ headers: { ...headers, ...answer.headers }, key: correlationId, body });
  }
}
