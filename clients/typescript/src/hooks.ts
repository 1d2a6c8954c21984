// What an application may be told in passing, and what is counted.
import type { EnvelopeType, Reply } from "./envelope.ts";

/** Functions that are called in passing; what one throws becomes a warning of the process, and changes no call. */
export interface Hooks {
  /**
   * Called once for each envelope that ends a call, before the result is returned or the error thrown: with its message
   * and one of the four types, as for a toast. Not for late or duplicate ones, not for a 429 after which the client asks
   * again, and not for `outcome`.
   */
  notify?(message: string, type: EnvelopeType): void;
  /** A reply to a request that was given up, or the answer that follows a 500 and that nobody waits for. */
  late?(reply: Reply): void;
  /** A reply came again, which is normal: its body is the same. */
  duplicate?(reply: Reply): void;
  /** A request is sent once more: its message_id (of a query its correlation id), and how many records that makes. */
  repeated?(messageId: string, records: number): void;
}

export interface Counters {
  /** Records published, repetitions too. */
  sent: number;
  repeated: number;
  /** Calls that ended with a reply, a refusal too. */
  answered: number;
  timedOut: number;
  /** Replies to requests that had been given up, or that had ended with a 500. */
  late: number;
  duplicate: number;
  /** Calls in flight now. */
  waiting: number;
}

/** Call what an application gave us: its faults, also of an async function, are its own. */
export function tell(call: () => unknown): void {
  try {
    const told = call();
    if (told instanceof Promise) told.catch(warn);
  } catch (error) {
    warn(error);
  }
}

function warn(error: unknown): void {
  process.emitWarning(error instanceof Error ? error : String(error), { type: "CatalogClientHook" });
}
