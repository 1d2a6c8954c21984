// How a request can end otherwise than with its result.
//
// CatalogError
// ├── NotConnected       Kafka, or the reply topic, cannot be used
// ├── NotSent            nothing took effect: it was not published
// ├── ReplyTimeout       no answer in time: it may have taken effect, or may not
// ├── CallAborted        its signal was aborted; a command that was sent stands
// ├── UnreadableReply    an answer came that this client cannot read
// └── Refused            the workers said no; `code` says why
//     ├── ValidationFailed, RateLimited, InternalError
import type { Envelope, Reply } from "./envelope.ts";
import { ERRORS, type ErrorCode } from "./generated.ts";

/** What the client itself calls a failure; `Refused` has the error_code of the contract. */
export type ClientCode = "NOT_CONNECTED" | "NOT_SENT" | "REPLY_TIMEOUT" | "ABORTED" | "UNREADABLE_REPLY";

export interface FieldError {
  /** A dotted path inside the payload. */
  readonly field: string;
  readonly message: string;
  readonly type: string;
}

interface Told {
  messageId?: string | undefined;
  statusCode?: number;
  details?: Readonly<Record<string, unknown>>;
  cause?: unknown;
}

/** The root of all that a call throws. */
export class CatalogError extends Error {
  override name = "CatalogError";
  /** The error_code of the contract, one of the client's own, or a code that is not known yet. */
  readonly code: ErrorCode | ClientCode | (string & {});
  /** That of the envelope; undefined where there is none. */
  readonly statusCode: number | undefined;
  readonly details: Readonly<Record<string, unknown>>;
  /** The id of the request, by which `outcome` finds what became of it. */
  readonly messageId: string | undefined;

  constructor(code: string, message: string, told: Told = {}) {
    super(message, told.cause === undefined ? undefined : { cause: told.cause });
    this.code = code;
    this.statusCode = told.statusCode;
    this.details = told.details ?? {};
    this.messageId = told.messageId;
  }

  /** Whether the same message may be sent again, under the same message_id. */
  get repeatable(): boolean {
    return false;
  }
}

/** Kafka cannot be reached, refuses us, or has no reply topic; the text says which, and what to do. */
export class NotConnected extends CatalogError {
  override name = "NotConnected";

  constructor(message: string, cause?: unknown) {
    super("NOT_CONNECTED", message, { cause });
  }

  override get repeatable(): boolean {
    return true;
  }
}

/** It was not published: Kafka does not take it, or could not be asked in time. */
export class NotSent extends CatalogError {
  override name = "NotSent";

  constructor(messageId: string, reason: string, cause?: unknown) {
    super("NOT_SENT", `request ${messageId} was not sent: ${reason}`, { messageId, cause });
  }

  override get repeatable(): boolean {
    return true;
  }
}

/**
 * No answer came in time. A command may have taken effect, or may not: `await client.outcome(error.messageId)` tells, and
 * the same call with the same messageId is safe.
 */
export class ReplyTimeout extends CatalogError {
  override name = "ReplyTimeout";
  declare readonly messageId: string;
  readonly waitedMs: number;
  /** How many times it was published. */
  readonly records: number;

  constructor(messageId: string, waitedMs: number, records: number, reason = "no answer came in time") {
    const text =
      `${reason}: ${messageId}, after ${Math.round(waitedMs)} ms and ${records} record(s). It may have taken effect; ` +
      `client.outcome("${messageId}") tells, and the same messageId can be sent again`;
    super("REPLY_TIMEOUT", text, { messageId });
    this.waitedMs = waitedMs;
    this.records = records;
  }

  override get repeatable(): boolean {
    return true;
  }
}

/** The call's signal was aborted. What was sent stands; `outcome` tells what became of it. */
export class CallAborted extends CatalogError {
  override name = "AbortError";
  declare readonly messageId: string;
  /** Whether it was published before. */
  readonly wasSent: boolean;

  constructor(messageId: string, wasSent: boolean, cause: unknown) {
    const effect = wasSent ? "it was sent, and may take effect" : "it was not sent";
    super("ABORTED", `the call ${messageId} was aborted: ${effect}`, { messageId, cause });
    this.wasSent = wasSent;
  }

  override get repeatable(): boolean {
    return true;
  }
}

/** An answer came that is not of the form that this client knows. A command may have taken effect. */
export class UnreadableReply extends CatalogError {
  override name = "UnreadableReply";
  declare readonly messageId: string;

  constructor(messageId: string, cause: unknown) {
    super("UNREADABLE_REPLY", `the answer to ${messageId} cannot be read: ${String(cause)}`, { messageId, cause });
  }
}

/** The workers refused the request, or a use case ended badly. `message` is the envelope's, made for people. */
export class Refused extends CatalogError {
  override name = "Refused";
  declare readonly statusCode: number;
  declare readonly messageId: string;
  readonly envelope: Envelope;

  constructor(messageId: string, envelope: Envelope) {
    const data = asObject(envelope.data);
    const details = asObject(data["details"]);
    super(String(data["error_code"] ?? ""), envelope.message, { messageId, statusCode: envelope.statusCode, details });
    this.envelope = envelope;
  }

  /** Under which message_id it may be sent once more: the `same`, or a `new` one; null: it would be refused again. */
  get repeat(): "same" | "new" | null {
    return isKnown(this.code) ? ERRORS[this.code].repeat : null;
  }

  /** What has to be otherwise before it is sent again; where it cannot be, what to do instead. */
  get repeatWith(): string {
    return isKnown(this.code) ? ERRORS[this.code].with : "";
  }

  override get repeatable(): boolean {
    return this.repeat === "same";
  }
}

/** 422 VALIDATION_FAILED: fields of the payload are wrong. */
export class ValidationFailed extends Refused {
  override name = "ValidationFailed";

  /** The fields, at least one. */
  get errors(): readonly FieldError[] {
    const found = this.details["validation_errors"];
    return Array.isArray(found) ? (found as FieldError[]) : [];
  }
}

/** 429 RATE_LIMITED: this caller's window is full for longer than the call had time. */
export class RateLimited extends Refused {
  override name = "RateLimited";

  get retryAfterMs(): number {
    return retryAfterMs(this.envelope) ?? 0;
  }

  /** Whether an operator blocks this caller or this kind. */
  get blocked(): boolean {
    return this.details["blocked"] === true;
  }
}

/** 500 INTERNAL_ERROR: a defect of the workers. */
export class InternalError extends Refused {
  override name = "InternalError";
  readonly #later: (timeoutMs: number | null) => Promise<Reply>;

  constructor(messageId: string, envelope: Envelope, later: (timeoutMs: number | null) => Promise<Reply>) {
    super(messageId, envelope);
    this.#later = later;
  }

  /** What to name to whoever runs the deployment. */
  get incident(): string {
    return String(this.details["incident"] ?? "");
  }

  /** Whether it waits for an operator: then it is answered again by itself. */
  get parked(): boolean {
    return this.details["parked"] === true;
  }

  /**
   * Wait for the later answer under the same correlation id: its data, or what it refuses with, thrown. It comes while the
   * client that asked is open; nobody waiting, it goes to the hook `late`. Throws ReplyTimeout after `timeoutMs` (null:
   * never); it may be called again then.
   */
  async settled(timeoutMs: number | null = null): Promise<unknown> {
    return (await this.#later(timeoutMs)).data;
  }
}

/** Tell a code of the contract that this client was made with from one of later. */
export function isKnown(code: string): code is ErrorCode {
  return Object.hasOwn(ERRORS, code);
}

/** How long a 429 asks to wait; undefined where it does not say. */
export function retryAfterMs(envelope: Envelope): number | undefined {
  const wait = asObject(asObject(envelope.data)["details"])["retry_after_ms"];
  return typeof wait === "number" ? wait : undefined;
}

function asObject(value: unknown): Readonly<Record<string, unknown>> {
  return typeof value === "object" && value !== null ? (value as Record<string, unknown>) : {};
}
