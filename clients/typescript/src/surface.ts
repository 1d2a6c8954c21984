// The methods that a client has, made from the kinds of the contract.
import type { Reply } from "./envelope.ts";
import type { Token } from "./exchange.ts";
import type { Requests } from "./generated.ts";
import type { Outgoing } from "./wire.ts";

export interface QueryOptions {
  /** How long an answer is waited for, in milliseconds; it is the deadline of the request as well. Null: for ever. */
  timeoutMs?: number | null;
  /** Ends the wait; a command that was sent stands. */
  signal?: AbortSignal;
  /** The key of the record, instead of what the contract says orders this kind. */
  key?: string;
}

export interface CommandOptions extends QueryOptions {
  /** Under this id it takes effect at most once; the same id with the same content is answered as before. */
  messageId?: string;
}

export interface RecordOptions {
  messageId?: string;
  key?: string;
}

export interface UntypedOptions extends CommandOptions {
  /** The newest known unless given; of an unknown kind 1. */
  version?: number;
  /** Where it belongs unless given; of an unknown kind `commands`. */
  side?: "commands" | "queries";
  /** This request is another caller's. */
  token?: Token;
}

type Name = keyof Requests;
type PayloadOf<N extends Name> = Requests[N]["payload"];
type OptionsOf<N extends Name> = Requests[N]["side"] extends "commands" ? CommandOptions : QueryOptions;
/** Options may only come after a payload, which may be left out where nothing in it is needed. */
type Arguments<P, O> = object extends P ? [payload?: P, options?: O] : [payload: P, options?: O];
type CommandName = { [N in Name]: Requests[N]["side"] extends "commands" ? N : never }[Name];
type ListName = { [N in Name]: Requests[N]["data"] extends { items: readonly unknown[] } ? N : never }[Name];
type ItemOf<N extends Name> = Requests[N]["data"] extends { items: readonly (infer Item)[] } ? Item : never;

/** A method for each kind: its data, or a CatalogError thrown. */
export type Calls = { [N in Name]: (...args: Arguments<PayloadOf<N>, OptionsOf<N>>) => Promise<Requests[N]["data"]> };
/** The same, returning the envelope and what its headers say. */
export type RawCalls = {
  [N in Name]: (...args: Arguments<PayloadOf<N>, OptionsOf<N>>) => Promise<Reply<Requests[N]["data"]>>;
};
/** Commands that want no answer: returns the message_id when the brokers have it. */
export type Sends = { [N in CommandName]: (...args: Arguments<PayloadOf<N>, CommandOptions>) => Promise<string> };
/** Commands as records, for your own outbox: nothing is published. */
export type Records = { [N in CommandName]: (...args: Arguments<PayloadOf<N>, RecordOptions>) => Outgoing };
/** Lists, item by item, page after page. */
export type Iterates = {
  [N in ListName]: (...args: Arguments<Omit<PayloadOf<N>, "cursor">, QueryOptions>) => AsyncGenerator<ItemOf<N>, void>;
};
