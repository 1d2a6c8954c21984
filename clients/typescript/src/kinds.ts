// What a kind of request is: of its types, and on the wire.

/** A kind that changes something: what it takes, and what its answer holds. */
export interface Command<Payload, Data> { side: "commands"; payload: Payload; data: Data }
/** A kind that asks something. */
export interface Query<Payload, Data> { side: "queries"; payload: Payload; data: Data }

/** How a kind is put on the wire. */
export interface Kind {
  readonly kind: string;
  readonly version: number;
  readonly side: "commands" | "queries";
  /** Paths into the payload: the text of the first that is there is the key of the record. */
  readonly key: readonly string[];
  readonly isList?: boolean;
}
