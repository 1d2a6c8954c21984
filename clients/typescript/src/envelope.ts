// What the workers answer.

/** The four types of an envelope; one unknown today stays the text that it is. */
export type EnvelopeType = "success" | "error" | "warning" | "neutral";

/** The body of every reply. */
export interface Envelope<Data = unknown> {
  readonly statusCode: number;
  readonly message: string;
  readonly type: EnvelopeType | (string & {});
  readonly data: Data;
}

/** An envelope, with what its headers say. */
export interface Reply<Data = unknown> extends Envelope<Data> {
  readonly messageId: string;
  /** The stored outcome of an earlier delivery, byte for byte. */
  readonly replayed: boolean;
  /** Since when the version is deprecated (a date), and from when on it may be refused. */
  readonly deprecation: string | undefined;
  readonly sunset: string | undefined;
}

/** The headers of a record, by name, as text. */
export type Headers = Readonly<Record<string, string>>;

/** Read an envelope. Throws TypeError for what is none. */
export function readEnvelope(body: Uint8Array): Envelope {
  const read: unknown = JSON.parse(new TextDecoder().decode(body));
  if (typeof read !== "object" || read === null) throw new TypeError("no JSON object");
  const { statusCode, message, type, data } = read as Record<string, unknown>;
  if (typeof statusCode !== "number") throw new TypeError("statusCode: no number");
  if (typeof message !== "string") throw new TypeError("message: no text");
  if (typeof type !== "string") throw new TypeError("type: no text");
  return { statusCode, message, type, data };
}

const TYPES: readonly string[] = ["success", "error", "warning", "neutral"] satisfies EnvelopeType[];

/** The type for people: one that is unknown today counts by its statusCode. */
export function knownType({ statusCode, type }: Envelope): EnvelopeType {
  if (TYPES.includes(type)) return type as EnvelopeType;
  return statusCode >= 400 ? "error" : "success";
}
