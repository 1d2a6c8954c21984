// How the brokers know us, and we them.
import type { ConnectionOptions } from "node:tls";

/** TLS to the brokers: Node's own options (`ca`, `cert`, `key`, …). */
export type TLS = ConnectionOptions;

/** A text, or an (async) function that returns it. */
export type Secret = string | (() => string | Promise<string>);

export type SASL =
  | { mechanism: "PLAIN" | "SCRAM-SHA-256" | "SCRAM-SHA-512"; username: Secret; password: Secret }
  | { mechanism: "OAUTHBEARER"; token: Secret };
