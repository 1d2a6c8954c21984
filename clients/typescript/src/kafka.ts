// The brokers' edge: a producer that joins what is published in one turn of the event loop, and a reader of replies.
import { randomUUID } from "node:crypto";

import {
  Admin,
  compatibilityPartitioner,
  Consumer,
  ListOffsetTimestamps,
  ProduceAcks,
  Producer,
  stringDeserializers,
  stringSerializers,
  type BaseOptions,
  type Message,
  type MessagesStream,
} from "@platformatic/kafka";

import { NotConnected } from "./errors.ts";
import type { SASL, TLS } from "./security.ts";
import { NotTaken, type Incoming, type Outgoing, type Wire } from "./wire.ts";

export interface KafkaOptions {
  readonly servers: readonly string[];
  readonly clientId: string;
  readonly replyTopic: string;
  /** Make the reply topic where it is missing. */
  readonly makes: boolean;
  /** Delete it at the end. */
  readonly deletes: boolean;
  readonly tls?: TLS | undefined;
  readonly sasl?: SASL | undefined;
}

type Replies = MessagesStream<string, Buffer, string, string>;
type ReplyMessage = Message<string, Buffer, string, string>;

const CONNECT_MS = 30_000; // so long a broker that is away is waited for at the start
const KNOWN_MS = 10_000; // so long a topic that was just made may be unknown to a broker
const CLOSE_MS = 3_000; // so long a goodbye is waited for: a broker that is away never hears it
const AGAIN_MS = 250;
const REQUEST_MS = 10_000;
const FETCH_MS = 1_000; // a broker without replies answers so soon
const SILENT_MS = 5_000; // one that says nothing for so long has lost us, whatever the connection says
const REPLIES_KEPT_MS = String(60 * 60 * 1000);
const JOINED_BYTES = 512 * 1024; // a batch must stay below the brokers' limit, whatever it is joined of
const JOINED_RECORDS = 1_000;
const UNKNOWN_TOPIC = "UNKNOWN_TOPIC_OR_PARTITION";
const FORBIDDEN = "TOPIC_AUTHORIZATION_FAILED";

interface Handed {
  readonly record: Outgoing;
  readonly resolve: () => void;
  readonly reject: (error: NotTaken) => void;
}

export class KafkaWire implements Wire {
  readonly replyTopic: string;
  readonly #options: KafkaOptions;
  readonly #client: BaseOptions;
  #producer: Producer<string, string, string, string> | undefined;
  #handed: Handed[] = [];
  readonly #known = new Map<string, Promise<void>>();
  #consumer: Consumer<string, Buffer, string, string> | undefined;
  readonly #positions = new Map<number, bigint>();
  #onReply: (reply: Incoming) => void = () => undefined;
  #onLost: () => void = () => undefined;
  #isClosed = false;

  constructor(options: KafkaOptions) {
    this.replyTopic = options.replyTopic;
    this.#options = options;
    this.#client = {
      clientId: options.clientId,
      bootstrapBrokers: [...options.servers],
      connectTimeout: 2_000,
      requestTimeout: REQUEST_MS,
      retryDelay: AGAIN_MS,
      autocreateTopics: false,
      ...(options.tls === undefined ? {} : { tls: options.tls }),
      ...(options.sasl === undefined ? {} : { sasl: options.sasl }),
    };
  }

  async start(): Promise<void> {
    await this.#reach();
    this.#produce();
  }

  #produce(): void {
    this.#known.clear();
    this.#producer = new Producer({
      ...this.#client,
      retries: true, // while a batch may take; after that the call repeats it
      acks: ProduceAcks.ALL,
      partitioner: compatibilityPartitioner, // Java's: what has one key goes to one partition, in every language
      serializers: stringSerializers,
    });
    this.#producer.on("client:broker:disconnect", () => this.#onLost());
  }

  async stop(): Promise<void> {
    this.#isClosed = true;
    const consumer = this.#consumer;
    this.#consumer = undefined;
    if (consumer !== undefined) await soon(consumer.close(true));
    if (this.#options.deletes && consumer !== undefined) {
      await soon(this.#administer((admin) => admin.deleteTopics({ topics: [this.replyTopic] })));
    }
    if (this.#producer !== undefined) await soon(this.#producer.close(true));
  }

  // Publishing -------------------------------------------------------------------------------------------------------
  publish(record: Outgoing): Promise<void> {
    return new Promise((resolve, reject) => {
      if (this.#handed.push({ record, resolve, reject }) === 1) setImmediate(() => this.#flush());
    });
  }

  #flush(): void {
    const handed = this.#handed;
    this.#handed = [];
    for (const batch of joined(handed)) void this.#send(batch);
  }

  /** Publish records of one topic. */
  async #send(batch: readonly Handed[]): Promise<void> {
    const { topic } = batch[0]!.record;
    const producer = this.#producer!;
    try {
      const messages = batch.map(({ record: { key, headers, body } }) => ({ topic, key, headers, value: body }));
      await inTime(this.#exists(topic).then(() => producer.send({ messages })));
    } catch (error) {
      if (error instanceof NotInTime && this.#producer === producer && !this.#isClosed) {
        this.#produce(); // one that lost its broker may never come back from it
        void soon(producer.close(true));
      }
      const isFinal = !this.#isClosed && this.#producer === producer;
      if (isFinal && batch.length > 1) {
        await Promise.all(batch.map((one) => this.#send([one]))); // none suffers for another
      } else {
        for (const { reject } of batch) reject(notTaken(error, isFinal));
      }
      return;
    }
    for (const { resolve } of batch) resolve();
  }

  /** Look whether a topic exists: the producer would wait for it for ever. */
  #exists(topic: string): Promise<void> {
    let known = this.#known.get(topic);
    if (known === undefined) {
      known = this.#producer!.metadata({ topics: [topic], retries: 0 }).then(
        () => undefined,
        (error: unknown) => {
          this.#known.delete(topic);
          if (isUnknownTopic(error) || says(error, FORBIDDEN)) throw error;
        },
      );
      this.#known.set(topic, known);
    }
    return known;
  }

  // Replies ----------------------------------------------------------------------------------------------------------
  async listen(onReply: (reply: Incoming) => void, onLost: () => void): Promise<void> {
    this.#onReply = onReply;
    this.#onLost = onLost;
    for (const until = performance.now() + CONNECT_MS; ; await pause(2 * AGAIN_MS)) {
      try {
        await this.#haveReplyTopic();
        await this.#read();
        return;
      } catch (error) {
        if (error instanceof NotConnected) throw error;
        const isOver = this.#isClosed || performance.now() > until || refusalOf(error) !== undefined;
        if (isOver) throw new NotConnected(`${this.#aboutTopic()}: ${reason(error)}`, error);
      }
    }
  }

  #aboutTopic(): string {
    return `the reply topic ${this.replyTopic} cannot be used`;
  }

  /** Read from the positions known, else from the end. A group of its own: two instances would share their replies. */
  async #read(): Promise<void> {
    if (this.#isClosed) throw new NotConnected("the client was closed");
    const consumer = new Consumer<string, Buffer, string, string>({
      ...this.#client,
      retries: true,
      groupId: `${this.replyTopic}-${randomUUID().slice(0, 8)}`,
      deserializers: {
        key: stringDeserializers.key,
        headerKey: stringDeserializers.headerKey,
        headerValue: stringDeserializers.headerValue,
      },
    });
    this.#consumer = consumer;
    try {
      if (this.#positions.size === 0) {
        const asked = consumer.listOffsets({ topics: [this.replyTopic], timestamp: ListOffsetTimestamps.LATEST });
        const ends = await inTime(asked);
        (ends.get(this.replyTopic) ?? []).forEach((offset, partition) => this.#positions.set(partition, offset));
      }
      const offsets = [...this.#positions].map(([partition, offset]) => ({ topic: this.replyTopic, partition, offset }));
      const joined = consumer.consume({
        topics: [this.replyTopic],
        mode: "manual",
        fallbackMode: "earliest",
        offsets,
        autocommit: false,
        minBytes: 1,
        maxWaitTime: FETCH_MS,
      });
      this.#follow(consumer, await inTime(joined));
    } catch (error) {
      await soon(consumer.close(true));
      if (says(error, FORBIDDEN)) throw new NotConnected(`${this.#aboutTopic()}: READ on it is missing`, error);
      if (says(error, "GROUP_AUTHORIZATION_FAILED")) {
        const text = `${this.#aboutTopic()}: READ on groups that begin with ${this.replyTopic}- is missing`;
        throw new NotConnected(text, error);
      }
      throw error;
    }
  }

  #follow(consumer: Consumer<string, Buffer, string, string>, stream: Replies): void {
    stream.on("data", (message: ReplyMessage) => {
      this.#positions.set(message.partition, message.offset + 1n);
      const headers = Object.fromEntries(message.headers);
      this.#onReply({ headers, key: message.key ?? "", body: message.value ?? Buffer.alloc(0) });
    });
    consumer.on("client:broker:disconnect", () => this.#onLost());
    let fetched = performance.now();
    stream.on("fetch", () => (fetched = performance.now()));
    const again = (): void => {
      clearInterval(watch);
      if (this.#isClosed || this.#consumer !== consumer) return;
      this.#consumer = undefined;
      this.#onLost();
      void soon(consumer.close(true));
      void this.#readAgain();
    };
    const watch = setInterval(() => {
      const isOurs = !this.#isClosed && this.#consumer === consumer;
      if (!isOurs || performance.now() - fetched > SILENT_MS) again();
    }, FETCH_MS);
    watch.unref();
    stream.on("error", again);
    stream.once("close", again);
  }

  /** A reader that broke is made anew, from where it was; nothing that was answered meanwhile is missed. */
  async #readAgain(): Promise<void> {
    while (!this.#isClosed) {
      try {
        await this.#read();
        return;
      } catch (error) {
        process.emitWarning(`replies cannot be read, trying again: ${reason(error)}`, { type: "CatalogClientReader" });
        await pause(4 * AGAIN_MS);
      }
    }
  }

  // The reply topic --------------------------------------------------------------------------------------------------
  async #haveReplyTopic(): Promise<void> {
    await this.#administer(async (admin) => {
      if (await this.#isThere(admin)) return;
      if (!this.#options.makes) throw new NotConnected(`${this.#aboutTopic()}: it does not exist`);
      await this.#make(admin);
      for (const until = performance.now() + KNOWN_MS; !(await this.#isThere(admin)); await pause(AGAIN_MS)) {
        if (performance.now() > until) throw new NotConnected(`${this.#aboutTopic()}: it was made, and is not there`);
      }
    });
  }

  async #isThere(admin: Admin): Promise<boolean> {
    try {
      await admin.metadata({ topics: [this.replyTopic], retries: 0, forceUpdate: true });
      return true;
    } catch (error) {
      if (isUnknownTopic(error)) return false;
      if (!says(error, FORBIDDEN)) throw error;
      throw new NotConnected(`${this.#aboutTopic()}: READ on it is missing, or it does not exist`, error);
    }
  }

  async #make(admin: Admin): Promise<void> {
    const settings = { "cleanup.policy": "delete", "retention.ms": REPLIES_KEPT_MS, "segment.ms": REPLIES_KEPT_MS };
    const configs = Object.entries(settings).map(([name, value]) => ({ name, value }));
    try {
      await admin.createTopics({ topics: [this.replyTopic], partitions: 1, replicas: -1, configs });
    } catch (error) {
      if (says(error, "TOPIC_ALREADY_EXISTS")) return;
      if (!says(error, FORBIDDEN)) throw error;
      const text = `${this.#aboutTopic()}: it does not exist, and CREATE on it is missing; have it made, or name one that exists`;
      throw new NotConnected(text, error);
    }
  }

  async #administer<T>(work: (admin: Admin) => Promise<T>): Promise<T> {
    const admin = new Admin({ ...this.#client, retries: 3 });
    try {
      return await work(admin);
    } finally {
      await soon(admin.close());
    }
  }

  // Reaching a broker ------------------------------------------------------------------------------------------------
  /** Return once a broker has let us in. */
  async #reach(): Promise<void> {
    const admin = new Admin({ ...this.#client, retries: 0 });
    const servers = this.#options.servers.join(", ");
    try {
      for (const until = performance.now() + CONNECT_MS; ; await pause(2 * AGAIN_MS)) {
        try {
          await admin.metadata({ topics: [], forceUpdate: true });
          return;
        } catch (error) {
          const refusal = refusalOf(error);
          if (refusal !== undefined) throw new NotConnected(`Kafka at ${servers} ${refusal}`, error);
          if (performance.now() > until) throw new NotConnected(`Kafka at ${servers} cannot be reached: ${reason(error)}`, error);
        }
      }
    } finally {
      await soon(admin.close());
    }
  }
}

/** Records of one topic each, few enough for a batch. */
function* joined(handed: readonly Handed[]): Generator<Handed[]> {
  const batches = new Map<string, { records: Handed[]; bytes: number }>();
  for (const one of handed) {
    const { topic, body } = one.record;
    const bytes = 2_048 + Buffer.byteLength(body); // its key and headers have a limit, too, but few come near it
    let batch = batches.get(topic);
    if (batch !== undefined && (batch.bytes + bytes > JOINED_BYTES || batch.records.length >= JOINED_RECORDS)) {
      yield batch.records;
      batch = undefined;
    }
    if (batch === undefined) batches.set(topic, (batch = { records: [], bytes: 0 }));
    batch.records.push(one);
    batch.bytes += bytes;
  }
  for (const { records } of batches.values()) yield records;
}

function notTaken(error: unknown, isFinal: boolean): NotTaken {
  if (isUnknownTopic(error)) return new NotTaken("the topic does not exist: is the prefix right?", isFinal, error);
  if (says(error, FORBIDDEN)) return new NotTaken("Kafka does not allow it: WRITE on the topic is missing", isFinal, error);
  return new NotTaken(reason(error), isFinal, error);
}

/** Every error that is behind one. */
function* chain(error: unknown): Generator<Record<string, unknown>> {
  if (typeof error !== "object" || error === null) return;
  yield error as Record<string, unknown>;
  yield* chain((error as Error).cause);
  if (error instanceof AggregateError) for (const one of error.errors) yield* chain(one);
}

function says(error: unknown, apiId: string): boolean {
  for (const one of chain(error)) if (one["apiId"] === apiId) return true;
  return false;
}

function isUnknownTopic(error: unknown): boolean {
  if (says(error, UNKNOWN_TOPIC)) return true;
  for (const one of chain(error)) if (/^Unknown topic /.test(String(one["message"]))) return true;
  return false;
}

/** Why another try would fail as well. */
function refusalOf(error: unknown): string | undefined {
  for (const one of chain(error)) {
    const code = String(one["code"]);
    if (code === "PLT_KFK_AUTHENTICATION") return `refuses our credentials: ${reason(one)}`;
    if (/CERT|SELF_SIGNED|UNABLE_TO_VERIFY/.test(code)) return `has a certificate that is not trusted: ${reason(one)}`;
    if (code.startsWith("ERR_SSL")) return `does not speak TLS as we do, or refuses our certificate: ${reason(one)}`;
  }
  return undefined;
}

/** The sentence of the error that began it. */
function reason(error: unknown): string {
  let last = "";
  for (const one of chain(error)) last = String(one["message"] ?? "") || last;
  return last || String(error);
}

class NotInTime extends Error {
  override message = "Kafka did not answer in time";
}

/** Wait for the brokers' word: what a lost connection was asked may never be answered. Throws NotInTime. */
async function inTime<T>(sent: Promise<T>): Promise<T> {
  let timer: NodeJS.Timeout | undefined;
  const late = new Promise<never>((_, reject) => (timer = setTimeout(() => reject(new NotInTime()), REQUEST_MS)));
  try {
    return await Promise.race([sent, late]);
  } finally {
    clearTimeout(timer);
  }
}

/** Wait for a goodbye, or for as long as one takes. */
async function soon(goodbye: Promise<unknown>): Promise<void> {
  let timer: NodeJS.Timeout | undefined;
  const enough = new Promise((resolve) => (timer = setTimeout(resolve, CLOSE_MS)));
  await Promise.race([goodbye.catch(() => undefined), enough]);
  clearTimeout(timer);
}

function pause(ms: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, ms));
}
