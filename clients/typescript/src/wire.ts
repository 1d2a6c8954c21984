// Between the client and Kafka: the seam at which the tests' double stands in.
import type { Headers } from "./envelope.ts";

/** A record as it goes to Kafka. */
export interface Outgoing {
  readonly topic: string;
  readonly key: string;
  readonly headers: Headers;
  /** JSON. */
  readonly body: string;
}

/** A record of the reply topic. */
export interface Incoming {
  readonly headers: Headers;
  readonly key: string;
  readonly body: Uint8Array;
}

export interface Wire {
  /** The topic that is read. */
  readonly replyTopic: string;
  /** Connect. Throws NotConnected. */
  start(): Promise<void>;
  /** Read the reply topic from its present end on. `onLost`: a connection broke, what went over it may be lost. */
  listen(onReply: (reply: Incoming) => void, onLost: () => void): Promise<void>;
  /** Publish a record; returns when the brokers have it. Throws NotTaken. */
  publish(record: Outgoing): Promise<void>;
  stop(): Promise<void>;
}

/** Kafka did not take a record. */
export class NotTaken extends Error {
  override name = "NotTaken";
  /** Another try would not change it. */
  readonly isFinal: boolean;

  constructor(reason: string, isFinal: boolean, cause?: unknown) {
    super(reason, { cause });
    this.isFinal = isFinal;
  }
}
