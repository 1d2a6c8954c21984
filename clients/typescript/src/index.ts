export { CatalogClient, MAX_IN_FLIGHT, REPEAT_AFTER_MS, TIMEOUT_MS, type ClientOptions } from "./client.ts";
export type { Envelope, EnvelopeType, Headers, Reply } from "./envelope.ts";
export {
  CallAborted,
  CatalogError,
  InternalError,
  isKnown,
  NotConnected,
  NotSent,
  RateLimited,
  Refused,
  ReplyTimeout,
  UnreadableReply,
  ValidationFailed,
  type ClientCode,
  type FieldError,
} from "./errors.ts";
export type { Token } from "./exchange.ts";
export * from "./generated.ts";
export type { Counters, Hooks } from "./hooks.ts";
export type { SASL, Secret, TLS } from "./security.ts";
export type {
  Calls,
  CommandOptions,
  Iterates,
  QueryOptions,
  RawCalls,
  RecordOptions,
  Records,
  Sends,
  UntypedOptions,
} from "./surface.ts";
export { VERSION } from "./version.ts";
export { NotTaken, type Incoming, type Outgoing, type Wire } from "./wire.ts";
