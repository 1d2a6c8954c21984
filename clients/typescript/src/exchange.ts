// Requests and their answers: what is sent when, repeated when, and which reply is whose.
import { randomUUID } from "node:crypto";

import { readEnvelope, type Envelope, type Reply } from "./envelope.ts";
import { CallAborted, CatalogError, NotSent, ReplyTimeout, retryAfterMs, UnreadableReply } from "./errors.ts";
import { tell, type Counters, type Hooks } from "./hooks.ts";
import { NotTaken, type Incoming, type Outgoing, type Wire } from "./wire.ts";

/** The JWT, or a function that returns it; asked at each record. */
export type Token = string | (() => string | Promise<string>);

export interface Question {
  readonly messageId: string;
  readonly correlationId: string;
  /** Without its token. */
  readonly record: Outgoing;
  readonly isCommand: boolean;
  /** Null: it waits for ever. */
  readonly timeoutMs: number | null;
  readonly token?: Token | undefined;
  readonly signal?: AbortSignal | undefined;
}

const JITTER = 0.2;
const AFTER_LOSS_MS = 1_000;
const PUBLISH_AGAIN_MS = 500;
const LONGEST_TIMER_MS = 2 ** 31 - 1;
const REMEMBERED = 100_000; // requests that were given up: whose late replies are told from duplicates
const TOO_MANY = 429;
const DEFECT = 500;

/** What may still follow a 500. */
export class Settlement {
  #answer: Reply | undefined;
  readonly #waiters = new Set<(reply: Reply) => void>();
  readonly #messageId: string;

  constructor(messageId: string) {
    this.#messageId = messageId;
  }

  get isAwaited(): boolean {
    return this.#waiters.size > 0;
  }

  settle(reply: Reply): void {
    this.#answer = reply;
    for (const waiter of this.#waiters) waiter(reply);
  }

  /** Wait for it. Throws ReplyTimeout after `timeoutMs`. */
  answer(timeoutMs: number | null): Promise<Reply> {
    if (this.#answer !== undefined) return Promise.resolve(this.#answer);
    return new Promise((resolve, reject) => {
      const failure = new ReplyTimeout(this.#messageId, timeoutMs ?? 0, 0, "the later answer did not come in time");
      const timer = timeoutMs === null ? undefined : setTimeout(() => end(() => reject(failure)), timeoutMs);
      const waiter = (reply: Reply): void => end(() => resolve(reply));
      const end = (how: () => void): void => {
        clearTimeout(timer);
        this.#waiters.delete(waiter);
        how();
      };
      this.#waiters.add(waiter);
    });
  }
}

/** A request in flight. */
class Call {
  readonly question: Question;
  readonly began = performance.now();
  readonly deadline: number | undefined;
  readonly answer: Promise<Reply>;
  resolve!: (reply: Reply) => void;
  reject!: (error: unknown) => void;
  isDone = false;
  hasSlot = false;
  /** So many the broker may have. */
  records = 0;
  /** The last record is on its way to the broker. */
  isUnderWay = false;
  /** A 429 came; a repetition is due. */
  isLimited = false;
  /** Kafka did not take it; another try is due. */
  isDelayed = false;
  /** Until the next repetition. */
  waitMs: number;
  timer: NodeJS.Timeout | undefined;
  /** What the timer is set for; it may ring a moment early, so that the clock does not tell. */
  due: "repetition" | "end" | "look" = "look";
  settlement: Settlement | undefined;

  constructor(question: Question, repeatAfterMs: number) {
    this.question = question;
    this.waitMs = repeatAfterMs;
    if (question.timeoutMs !== null) this.deadline = this.began + question.timeoutMs;
    this.answer = new Promise((resolve, reject) => {
      this.resolve = (reply) => {
        this.isDone = true;
        resolve(reply);
      };
      this.reject = (error) => {
        this.isDone = true;
        reject(error);
      };
    });
  }
}

/** Sends requests and returns their answers, thousands at once. */
export class Exchange {
  readonly counters: Counters = { sent: 0, repeated: 0, answered: 0, timedOut: 0, late: 0, duplicate: 0, waiting: 0 };
  readonly #wire: Wire;
  readonly #token: Token;
  readonly #hooks: Hooks;
  readonly #maxInFlight: number;
  readonly #repeatAfterMs: number;
  readonly #prefix = randomUUID().replaceAll("-", "").slice(0, 12);
  #number = 0;
  #slotsTaken = 0;
  readonly #queued = new Set<Call>();
  readonly #calls = new Set<Call>();
  readonly #waiting = new Map<string, Call>();
  readonly #givenUp = new Map<string, Settlement | undefined>();
  #listening: Promise<void> | undefined;
  #isClosed = false;

  constructor(wire: Wire, token: Token, hooks: Hooks, maxInFlight: number, repeatAfterMs: number) {
    this.#wire = wire;
    this.#token = token;
    this.#hooks = hooks;
    this.#maxInFlight = maxInFlight;
    this.#repeatAfterMs = repeatAfterMs;
  }

  /** An id that no other request of any client has. */
  nextCorrelationId(): string {
    this.#number += 1;
    return `${this.#prefix}-${this.#number}`;
  }

  // Asking -----------------------------------------------------------------------------------------------------------
  /**
   * Publish a request and return its answer, a refusal too; of a 500 also what may follow.
   *
   * Throws NotConnected, NotSent, ReplyTimeout, CallAborted or UnreadableReply. A command that was sent stands.
   */
  async ask(question: Question): Promise<{ reply: Reply; settlement: Settlement | undefined }> {
    this.#checkOpen();
    const call = new Call(question, this.#repeatAfterMs);
    const { signal } = question;
    const onAbort = (): void => call.reject(new CallAborted(question.messageId, call.records > 0, signal?.reason));
    this.#calls.add(call);
    try {
      if (signal?.aborted === true) onAbort();
      else {
        signal?.addEventListener("abort", onAbort, { once: true });
        this.#arm(call, undefined);
        this.#begin(call);
      }
      const reply = await call.answer;
      this.counters.answered += 1;
      return { reply, settlement: call.settlement };
    } catch (error) {
      if (call.records > 0) this.#giveUp(question.correlationId, undefined);
      throw error;
    } finally {
      signal?.removeEventListener("abort", onAbort);
      this.#end(call);
    }
  }

  /** Publish a command that wants no answer; returns when the brokers have it. Throws NotSent. */
  async send(messageId: string, record: Outgoing, timeoutMs: number | null, signal?: AbortSignal): Promise<void> {
    this.#checkOpen();
    const until = performance.now() + (timeoutMs ?? Infinity);
    for (;;) {
      this.counters.sent += 1;
      try {
        const published = this.#withToken(record, this.#token).then((signed) => this.#wire.publish(signed));
        await within(published, messageId, until, signal);
        return;
      } catch (error) {
        if (!(error instanceof NotTaken)) throw error;
        if (error.isFinal) throw new NotSent(messageId, error.message, error);
        if (performance.now() + PUBLISH_AGAIN_MS > until) throw new NotSent(messageId, error.message, error);
      }
      await within(pause(PUBLISH_AGAIN_MS), messageId, until, signal);
    }
  }

  #checkOpen(): void {
    if (this.#isClosed) throw new CatalogError("NOT_CONNECTED", "the client was closed");
  }

  /** Give a call its slot, and have it published; a call waits here for an end of another where there are too many. */
  #begin(call: Call): void {
    if (this.#slotsTaken >= this.#maxInFlight) {
      this.#queued.add(call);
      return;
    }
    this.#slotsTaken += 1;
    call.hasSlot = true;
    this.#ask(call).catch((error: unknown) => {
      if (error instanceof NotTaken) this.#notTaken(call, error);
      else if (!call.isDone) call.reject(error);
    });
  }

  async #ask(call: Call): Promise<void> {
    await this.#listen();
    if (call.isDone) return;
    this.#waiting.set(call.question.correlationId, call);
    if (call.question.isCommand) this.#arm(call, call.waitMs);
    await this.#publish(call);
  }

  /** Read replies; the first request waits for that, so that no reply can be missed. */
  #listen(): Promise<void> {
    this.#listening ??= this.#wire
      .listen((reply) => this.#onReply(reply), () => this.#onLost())
      .catch((error: unknown) => {
        this.#listening = undefined;
        throw error;
      });
    return this.#listening;
  }

  async #publish(call: Call): Promise<void> {
    call.isUnderWay = true;
    try {
      const record = await this.#withToken(call.question.record, call.question.token ?? this.#token);
      if (call.isDone) return;
      this.counters.sent += 1;
      call.records += 1;
      await this.#wire.publish(record);
    } finally {
      call.isUnderWay = false;
    }
  }

  async #withToken(record: Outgoing, token: Token): Promise<Outgoing> {
    const text = typeof token === "string" ? token : await token();
    return { ...record, headers: { ...record.headers, authorization: `Bearer ${text}` } };
  }

  #notTaken(call: Call, error: NotTaken): void {
    if (call.isDone) return;
    if (!error.isFinal) {
      call.isDelayed = true;
      this.#arm(call, PUBLISH_AGAIN_MS);
    } else if (call.records <= 1) {
      call.reject(new NotSent(call.question.messageId, error.message, error)); // else an earlier record may be answered
    }
  }

  // Repeating --------------------------------------------------------------------------------------------------------
  /** Set the one timer of a request: its next repetition, or its end where that is earlier. */
  #arm(call: Call, waitMs: number | undefined): void {
    clearTimeout(call.timer);
    const left = call.deadline === undefined ? Infinity : call.deadline - performance.now();
    const repetition = waitMs === undefined ? Infinity : waitMs * (1 + Math.random() * JITTER);
    const wait = Math.min(left, repetition);
    call.due = wait > LONGEST_TIMER_MS ? "look" : left <= repetition ? "end" : "repetition";
    call.timer =
      wait === Infinity ? undefined : setTimeout(() => this.#onTime(call), Math.min(Math.ceil(wait), LONGEST_TIMER_MS));
  }

  #onTime(call: Call): void {
    if (call.isDone) return;
    if (call.due === "end") {
      this.#endUnanswered(call);
      return;
    }
    if (call.due === "look" && !call.question.isCommand) {
      this.#arm(call, undefined);
      return;
    }
    const { isCommand, messageId } = call.question;
    if (call.isLimited || call.isDelayed) call.isLimited = call.isDelayed = false;
    else if (isCommand) call.waitMs *= 2;
    this.#arm(call, isCommand && call.hasSlot ? call.waitMs : undefined);
    if (!call.hasSlot || call.isUnderWay || !this.#waiting.has(call.question.correlationId)) return;
    const isFirst = call.records === 0;
    this.#publish(call).catch((error: unknown) => {
      if (error instanceof NotTaken) this.#notTaken(call, error);
      else tell(() => Promise.reject(error instanceof Error ? error : new Error(String(error)))); // the caller's token
    });
    if (isFirst) return;
    this.counters.repeated += 1;
    tell(() => this.#hooks.repeated?.(messageId, call.records + 1));
  }

  #endUnanswered(call: Call, reason?: string): void {
    const { messageId, correlationId } = call.question;
    if (call.records === 0) {
      const why = call.hasSlot ? "Kafka could not be reached in time" : "as many requests as may be in flight waited";
      call.reject(new NotSent(messageId, reason ?? why));
      return;
    }
    this.counters.timedOut += 1;
    this.#giveUp(correlationId, undefined); // here: its reply may come before who waits for it is run
    call.reject(new ReplyTimeout(messageId, performance.now() - call.began, call.records, reason));
  }

  /** A connection broke: what was asked over it may be lost. Commands are repeated anyway. */
  #onLost(): void {
    for (const call of this.#waiting.values()) {
      if (!call.question.isCommand && call.records > 0 && !call.isLimited) this.#arm(call, Math.random() * AFTER_LOSS_MS);
    }
  }

  // Answers ----------------------------------------------------------------------------------------------------------
  #onReply(incoming: Incoming): void {
    const correlationId = incoming.headers["correlation_id"] ?? incoming.key;
    if (!correlationId.startsWith(this.#prefix)) return; // to another client on the same topic
    const call = this.#waiting.get(correlationId);
    let reply: Reply;
    try {
      reply = replyOf(incoming, readEnvelope(incoming.body), correlationId);
    } catch (error) {
      if (call !== undefined && !call.isDone) call.reject(new UnreadableReply(call.question.messageId, error));
      else tell(() => Promise.reject(new UnreadableReply(correlationId, error)));
      return;
    }
    if (call === undefined || call.isDone) {
      this.#onOther(correlationId, reply);
      return;
    }
    if (reply.statusCode === TOO_MANY && this.#waits(call, reply)) return;
    if (reply.statusCode === DEFECT) {
      call.settlement = new Settlement(call.question.messageId);
      this.#giveUp(correlationId, call.settlement);
    }
    call.resolve(reply);
  }

  /** Repeat what was refused for its rate, where the wait fits into the time left. */
  #waits(call: Call, reply: Envelope): boolean {
    const waitMs = retryAfterMs(reply);
    if (waitMs === undefined) return false;
    if (call.deadline !== undefined && performance.now() + waitMs * (1 + JITTER) >= call.deadline) {
      return call.isLimited; // an earlier one is due
    }
    if (!call.isLimited) {
      call.isLimited = true;
      this.#arm(call, waitMs);
    }
    return true;
  }

  /** Count a reply that no request waits for. */
  #onOther(correlationId: string, reply: Reply): void {
    const settlement = this.#givenUp.get(correlationId);
    const isAgain = reply.statusCode === DEFECT && settlement !== undefined;
    if (isAgain || !this.#givenUp.delete(correlationId)) {
      this.counters.duplicate += 1;
      tell(() => this.#hooks.duplicate?.(reply));
      return;
    }
    const isAwaited = settlement?.isAwaited === true;
    settlement?.settle(reply);
    if (isAwaited) return;
    this.counters.late += 1;
    tell(() => this.#hooks.late?.(reply));
  }

  #giveUp(correlationId: string, settlement: Settlement | undefined): void {
    this.#givenUp.set(correlationId, settlement);
    if (this.#givenUp.size > REMEMBERED) {
      for (const [oldest] of this.#givenUp) {
        this.#givenUp.delete(oldest);
        break;
      }
    }
  }

  // The end ----------------------------------------------------------------------------------------------------------
  #end(call: Call): void {
    clearTimeout(call.timer);
    this.#calls.delete(call);
    this.#queued.delete(call);
    this.#waiting.delete(call.question.correlationId);
    if (!call.hasSlot) return;
    this.#slotsTaken -= 1;
    for (const next of this.#queued) {
      this.#queued.delete(next);
      this.#begin(next);
      break;
    }
  }

  get waiting(): number {
    return this.#calls.size;
  }

  /** End what waits: its answer can no longer come. */
  close(): void {
    this.#isClosed = true;
    for (const call of this.#calls) if (!call.isDone) this.#endUnanswered(call, "the client was closed");
  }
}

function replyOf({ headers }: Incoming, envelope: Envelope, correlationId: string): Reply {
  return {
    ...envelope,
    messageId: headers["in_reply_to"] ?? correlationId,
    replayed: headers["replayed"] === "true",
    deprecation: headers["deprecation"],
    sunset: headers["sunset"],
  };
}

function pause(ms: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, ms));
}

/** Wait for a record that wants no answer. Throws NotSent where time is up, CallAborted. */
function within(published: Promise<void>, messageId: string, until: number, signal?: AbortSignal): Promise<void> {
  return new Promise((resolve, reject) => {
    const reason = "Kafka did not confirm it in time; perhaps it has it";
    const left = Math.min(until - performance.now(), LONGEST_TIMER_MS);
    const timer = until === Infinity ? undefined : setTimeout(() => end(() => reject(new NotSent(messageId, reason))), left);
    const onAbort = (): void => end(() => reject(new CallAborted(messageId, true, signal?.reason)));
    const end = (how: () => void): void => {
      clearTimeout(timer);
      signal?.removeEventListener("abort", onAbort);
      how();
    };
    published.then(() => end(resolve), (error: unknown) => end(() => reject(error as Error)));
    if (signal?.aborted === true) onAbort();
    else signal?.addEventListener("abort", onAbort, { once: true });
  });
}
