// What the client does with answers, and without any: on its double, which replaces Kafka alone.
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { test } from "node:test";

import * as index from "../src/index.ts";
import {
  CallAborted,
  CatalogError,
  ERRORS,
  InternalError,
  KINDS,
  NotSent,
  RateLimited,
  Refused,
  ReplyTimeout,
  UnreadableReply,
  ValidationFailed,
  VERSION,
  type ErrorCode,
} from "../src/index.ts";
import { FakeCatalog } from "../src/testing.ts";

const ADA_ID = "0198c7a5-3c00-7000-8000-00000000ada0";
const ADA = { id: ADA_ID, name: "Ada", email: "ada@example.com" };
const NEW = { name: "Ada", email: "ada@example.com" };

function knowing(): FakeCatalog {
  const fake = new FakeCatalog();
  fake.answer("create_customer", ADA, { statusCode: 201, message: "created" });
  fake.answer("get_customer", ADA);
  return fake;
}

async function thrown<T>(promise: Promise<unknown>, type: abstract new (...given: never[]) => T): Promise<T> {
  const error: unknown = await promise.then(() => undefined, (one: unknown) => one);
  assert.ok(error instanceof type, `${String(error)} is no ${type.name}`);
  return error;
}

async function until(isTrue: () => boolean): Promise<void> {
  for (const end = Date.now() + 10_000; !isTrue(); await new Promise((resolve) => setTimeout(resolve, 5))) {
    assert.ok(Date.now() < end, "it did not come to that");
  }
}

test("a request says who asks, until when, and where to answer", async () => {
  const fake = knowing();
  await using catalog = await fake.connect({ name: "billing", token: async () => "t-1" });
  const before = Date.now();
  await catalog.createCustomer({ ...NEW, customer_id: ADA_ID }, { messageId: "m-1", timeoutMs: 4_000 });
  await catalog.getCustomer({ customer_id: ADA_ID });
  const [command, query] = fake.received;
  assert.deepEqual(command?.record.topic, "catalog.commands");
  assert.equal(command.record.key, ADA_ID);
  const { deadline, correlation_id, ...rest } = command.headers;
  assert.deepEqual(rest, {
    "content-type": "application/json",
    "user-agent": `catalog-client-typescript/${VERSION} billing`,
    message_id: "m-1",
    reply_to: "catalog.replies.fake",
    authorization: "Bearer t-1",
  });
  assert.ok(Number(deadline) >= before + 4_000 && Number(deadline) <= Date.now() + 4_000);
  assert.equal(query?.record.topic, "catalog.queries");
  assert.equal(query.headers["message_id"], undefined);
  assert.notEqual(query.headers["correlation_id"], correlation_id);
  assert.equal(query.record.key, query.headers["correlation_id"]);
});

test("the key is what the contract says orders a kind, else the message_id, else what the caller says", async () => {
  const fake = new FakeCatalog();
  for (const kind of ["create_customer", "import_products", "place_order", "update_product"]) fake.answer(kind);
  await using catalog = await fake.connect();
  const id = ADA_ID.toUpperCase();
  await catalog.createCustomer(NEW);
  await catalog.createCustomer({ ...NEW, customer_id: null });
  await catalog.createCustomer({ ...NEW, customer_id: id });
  await catalog.importProducts({ products: [] }, { messageId: "m-2" });
  await catalog.placeOrder({ customer_id: id, lines: [{ mnemonic: "A", quantity: 1, unit_price: "1.00" }] });
  await catalog.updateProduct({ mnemonic: "ÄÖ" }, { key: "other" });
  const keys = fake.received.map(({ record }) => record.key);
  assert.deepEqual(keys, [NEW.email, NEW.email, id, "m-2", id, "other"]);
});

test("each refusal is told by its code, and by whether and with what to send it again", async () => {
  for (const [code, { statusCode, repeat, with: needs }] of Object.entries(ERRORS)) {
    const fake = new FakeCatalog();
    fake.refuse("get_customer", code as ErrorCode, { retry_after_ms: 60_000, incident: "i-1", validation_errors: [] });
    await using catalog = await fake.connect();
    const error = await thrown(catalog.getCustomer({ customer_id: ADA_ID }), Refused);
    assert.deepEqual([error.code, error.statusCode, error.message], [code, statusCode, "Refused"]);
    assert.deepEqual([error.repeat, error.repeatWith, error.repeatable], [repeat, needs, repeat === "same"]);
    assert.equal(error instanceof InternalError, code === "INTERNAL_ERROR");
    assert.equal(error instanceof RateLimited, code === "RATE_LIMITED");
    assert.equal(error instanceof ValidationFailed, code === "VALIDATION_FAILED");
  }
});

test("notify is told once of each envelope that ends a call, by one of the four types, before the call ends", async () => {
  const told: string[] = [];
  const fake = new FakeCatalog();
  const answer = (type: string, statusCode = 200) => [{ data: { error_code: "TEAPOT" }, type, statusCode, message: type }];
  fake.answerAll([
    answer("success"),
    answer("neutral"),
    answer("warning"),
    answer("error", 409),
    answer("postponed", 202),
    answer("odd", 418),
    [{ ...answer("success")[0], afterMs: 1_000 }], // comes late
    [...answer("success"), ...answer("success")], // comes twice
    [{ data: { error_code: "RATE_LIMITED", details: { retry_after_ms: 1 } }, statusCode: 429, type: "error" }],
    answer("success"),
    [{ data: { error_code: "OUTCOME_NOT_FOUND" }, statusCode: 404, type: "error" }],
  ]);
  await using catalog = await fake.connect({ notify: (message, type) => told.push(`${message} ${type}`) });
  for (let number = 0; number < 6; number += 1) {
    const before = told.length;
    await catalog.createCustomer(NEW).catch(() => undefined);
    assert.equal(told.length, before + 1);
  }
  const controller = new AbortController();
  const given = catalog.createCustomer(NEW, { signal: controller.signal });
  await until(() => fake.received.length === 7);
  controller.abort();
  await thrown(given, CallAborted);
  await until(() => catalog.counters.late === 1);
  await catalog.createCustomer(NEW);
  await until(() => catalog.counters.duplicate === 1);
  await catalog.createCustomer(NEW);
  assert.equal(await catalog.outcome("m-1"), null);
  const six = ["success success", "neutral neutral", "warning warning", "error error", "postponed success", "odd error"];
  assert.deepEqual(told, [...six, "success success", "success success"]);
});

test("what a hook throws, or an async one, changes no call", async () => {
  const warnings: string[] = [];
  const onWarning = (warning: Error) => warnings.push(warning.message);
  process.on("warning", onWarning);
  try {
    const hooks = [() => { throw new Error("one"); }, async () => { throw new Error("two"); }];
    for (const notify of hooks) {
      await using catalog = await knowing().connect({ notify: notify as () => void });
      assert.equal((await catalog.createCustomer(NEW)).id, ADA_ID);
    }
    await until(() => warnings.length === 2);
    assert.deepEqual(warnings, ["one", "two"]);
  } finally {
    process.off("warning", onWarning);
  }
});

test("an abort ends the wait, before and after the request was sent; what was sent stands", async () => {
  const fake = new FakeCatalog();
  fake.ignore("create_customer");
  await using catalog = await fake.connect();
  const early = await thrown(catalog.createCustomer(NEW, { signal: AbortSignal.abort() }), CallAborted);
  assert.deepEqual([early.wasSent, early.name, fake.received.length], [false, "AbortError", 0]);
  const controller = new AbortController();
  const call = catalog.createCustomer(NEW, { signal: controller.signal, messageId: "m-3" });
  await until(() => fake.received.length === 1);
  controller.abort(new Error("enough"));
  const late = await thrown(call, CallAborted);
  assert.deepEqual([late.wasSent, late.messageId, (late.cause as Error).message], [true, "m-3", "enough"]);
  assert.equal(catalog.counters.waiting, 0);
});

test("a command is repeated under its id after twice as long each time; nothing after its answer", async () => {
  const fake = new FakeCatalog();
  fake.answerAll([[], [], [], [{ data: ADA }]]);
  const repeated: number[] = [];
  await using catalog = await fake.connect({ repeatAfterMs: 15, hooks: { repeated: (_, records) => repeated.push(records) } });
  await catalog.createCustomer(NEW);
  const ids = new Set(fake.received.map(({ headers }) => headers["message_id"]));
  assert.deepEqual([fake.received.length, ids.size, repeated], [4, 1, [2, 3, 4]]);
});

test("a query is asked again only after a connection was lost", async () => {
  const fake = new FakeCatalog();
  fake.answerAll([[], [{ data: ADA }]]);
  await using catalog = await fake.connect({ repeatAfterMs: 5 });
  const call = catalog.getCustomer({ customer_id: ADA_ID });
  await until(() => fake.received.length === 1);
  await new Promise((resolve) => setTimeout(resolve, 30));
  assert.equal(fake.received.length, 1);
  fake.loseConnection();
  assert.equal((await call).name, "Ada");
  assert.equal(catalog.counters.repeated, 1);
});

test("a timer that rings before the clock says so ends its call, and repeats no query", async (context) => {
  const now = performance.now.bind(performance);
  context.mock.method(performance, "now", () => Math.floor(now() / 25) * 25);
  const fake = new FakeCatalog();
  fake.ignore("get_customer");
  await using catalog = await fake.connect({ repeatAfterMs: 5 });
  const asked = Array.from({ length: 20 }, (_, number) =>
    thrown(catalog.getCustomer({ customer_id: ADA_ID }, { timeoutMs: 40 + number }), ReplyTimeout),
  );
  await Promise.all(asked);
  assert.equal(fake.received.length, 20);
  assert.equal(catalog.counters.repeated, 0);
});

test("so many in flight; the next waits for an end, and is not sent where there is none in time", async () => {
  const fake = new FakeCatalog();
  fake.answer("create_customer", ADA, { afterMs: 30 });
  fake.ignore("delete_customer");
  await using catalog = await fake.connect({ maxInFlight: 2 });
  const calls = Array.from({ length: 6 }, () => catalog.createCustomer(NEW));
  await until(() => fake.received.length === 2);
  assert.equal(catalog.counters.waiting, 6);
  await Promise.all(calls);
  const ends = [1, 2].map(() => catalog.deleteCustomer({ customer_id: ADA_ID }, { timeoutMs: 200 }).catch(() => undefined));
  const error = await thrown(catalog.createCustomer(NEW, { timeoutMs: 40 }), NotSent);
  assert.match(error.message, /as many requests as may be in flight/);
  await Promise.all(ends);
  assert.equal((await catalog.createCustomer(NEW)).id, ADA_ID);
});

test("the end of a client ends what waits, and twice is once", async () => {
  const fake = new FakeCatalog();
  fake.ignore("create_customer");
  const catalog = await fake.connect();
  const call = catalog.createCustomer(NEW, { timeoutMs: null, messageId: "m-4" });
  await until(() => fake.received.length === 1);
  await Promise.all([catalog.close(), catalog.close()]);
  assert.match((await thrown(call, ReplyTimeout)).message, /the client was closed: m-4/);
  await thrown(catalog.createCustomer(NEW), CatalogError);
});

test("the answer after a 500 goes to who waits, else to the hook; another 500 is a duplicate", async () => {
  const parked = { data: { error_code: "INTERNAL_ERROR", details: { incident: "i-1", parked: true } }, statusCode: 500, type: "error" };
  const fake = new FakeCatalog();
  const late: string[] = [];
  fake.answerAll([
    [parked, { ...parked, afterMs: 10 }, { data: ADA, afterMs: 500 }],
    [parked, { data: { error_code: "CUSTOMER_ALREADY_EXISTS", details: {} }, statusCode: 409, type: "error", afterMs: 500 }],
    [parked, { data: ADA, afterMs: 20, message: "later" }],
    [parked],
  ]);
  await using catalog = await fake.connect({ hooks: { late: ({ message }) => late.push(message) } });
  const first = await thrown(catalog.createCustomer(NEW), InternalError);
  assert.deepEqual([first.incident, first.parked, first.repeatable], ["i-1", true, true]);
  assert.deepEqual(await first.settled(5_000), ADA);
  const second = await thrown(catalog.createCustomer(NEW), InternalError);
  assert.equal((await thrown(second.settled(), Refused)).code, "CUSTOMER_ALREADY_EXISTS");
  const third = await thrown(catalog.createCustomer(NEW), InternalError);
  await until(() => late.length === 1);
  assert.deepEqual([late, await third.settled(0)], [["later"], ADA]);
  const fourth = await thrown(catalog.createCustomer(NEW), InternalError);
  await thrown(fourth.settled(10), ReplyTimeout);
  assert.deepEqual([catalog.counters.late, catalog.counters.duplicate], [1, 1]);
});

test("a reply that is none ends its call alone; one to another client on the topic is none of ours", async () => {
  const fake = knowing();
  await using catalog = await fake.connect();
  let deliver: Parameters<FakeCatalog["listen"]>[0] = () => undefined;
  const listen = fake.listen.bind(fake);
  fake.listen = (onReply, onLost) => listen((deliver = onReply), onLost);
  fake.ignore("delete_customer");
  const call = catalog.deleteCustomer({ customer_id: ADA_ID });
  await until(() => fake.received.length === 1);
  const id = fake.received[0]!.headers["correlation_id"]!;
  for (const key of ["someone-else", ""]) deliver({ headers: {}, key, body: Buffer.from("{}") });
  deliver({ headers: {}, key: id, body: Buffer.from('{"statusCode": "200"}') });
  assert.match((await thrown(call, UnreadableReply)).message, /statusCode: no number/);
  assert.equal((await catalog.createCustomer(NEW)).id, ADA_ID);
  assert.equal(catalog.counters.duplicate, 0);
});

test("a list is gone through page by page, with the same filters, until its end or the reader's", async () => {
  const fake = new FakeCatalog();
  const page = (items: unknown[], next_cursor: string | null) => ({ items, next_cursor });
  fake.answer("search_customers", page([{ name: "a" }, { name: "b" }], "c-1"));
  fake.answer("search_customers", page([], "c-2"));
  fake.answer("search_customers", page([{ name: "c" }], null));
  await using catalog = await fake.connect();
  const names: string[] = [];
  for await (const one of catalog.iterate.searchCustomers({ limit: 2 })) names.push(one.name);
  assert.deepEqual(names, ["a", "b", "c"]);
  const asked = fake.received.map(({ payload }) => payload);
  assert.deepEqual(asked, [{ limit: 2 }, { limit: 2, cursor: "c-1" }, { limit: 2, cursor: "c-2" }]);
});

test("a token that cannot be had ends its call with the caller's own error, and nothing is sent", async () => {
  const fake = knowing();
  await using catalog = await fake.connect({ token: () => Promise.reject(new RangeError("no token")) });
  assert.equal((await thrown(catalog.createCustomer(NEW), RangeError)).message, "no token");
  assert.equal((await thrown(catalog.send.createCustomer(NEW), RangeError)).message, "no token");
  assert.equal(fake.received.length, 0);
});

test("a record for an outbox has all but the token, and publishes nothing", async () => {
  const fake = knowing();
  await using catalog = await fake.connect({ name: "billing" });
  const record = catalog.record.createCustomer({ ...NEW, customer_id: ADA_ID }, { messageId: "m-5" });
  assert.deepEqual(JSON.parse(record.body), { kind: "create_customer", version: 1, payload: { ...NEW, customer_id: ADA_ID } });
  assert.deepEqual([record.topic, record.key, Object.keys(record.headers).sort()], [
    "catalog.commands",
    ADA_ID,
    ["content-type", "message_id", "user-agent"],
  ]);
  assert.equal(fake.received.length, 0);
  assert.equal(await catalog.send.createCustomer(NEW, { messageId: "m-6" }), "m-6");
  assert.equal(fake.received[0]?.headers["reply_to"], undefined);
});

test("options that cannot work are refused by name", async () => {
  const options = [
    [{ name: "a b" }, /name/],
    [{ timeoutMs: 0 }, /timeoutMs/],
    [{ maxInFlight: -1 }, /maxInFlight/],
    [{ repeatAfterMs: Number.NaN }, /repeatAfterMs/],
    [{ deleteOnClose: true }, /deleteOnClose/],
    [{ prefix: "shop" }, /replyTopic/],
  ] as const;
  for (const [given, text] of options) await assert.rejects(new FakeCatalog().connect(given), text);
  await using catalog = await knowing().connect();
  await assert.rejects(catalog.createCustomer(NEW, { messageId: "ä" }), /messageId/);
  await assert.rejects(catalog.createCustomer(NEW, { timeoutMs: -1 }), /timeoutMs/);
});

test("each kind has its methods: commands are sent and recorded, lists are gone through", async () => {
  await using catalog = await knowing().connect();
  const named = (is: (kind: { side: string; isList?: boolean }) => boolean) =>
    Object.entries(KINDS).filter(([, kind]) => is(kind)).map(([name]) => name);
  const all = named(() => true);
  assert.deepEqual(Object.keys(catalog.withRawResponse), all);
  for (const name of all) assert.equal(typeof (catalog as unknown as Record<string, unknown>)[name], "function");
  for (const way of [catalog.send, catalog.record]) assert.deepEqual(Object.keys(way), named(({ side }) => side === "commands"));
  assert.deepEqual(Object.keys(catalog.iterate), named(({ isList }) => isList === true));
});

test("what is public, by name: to widen it is a decision", () => {
  assert.deepEqual(Object.keys(index).sort(), [
    "CONTRACT_VERSION", "CallAborted", "CatalogClient", "CatalogError", "ERRORS", "InternalError", "KINDS", "MAX_IN_FLIGHT",
    "NotConnected", "NotSent", "NotTaken", "REPEAT_AFTER_MS", "RateLimited", "Refused", "ReplyTimeout", "TIMEOUT_MS",
    "UnreadableReply", "VERSION", "ValidationFailed", "isKnown",
  ]);
  const { version } = JSON.parse(readFileSync(new URL("../package.json", import.meta.url), "utf8")) as { version: string };
  assert.equal(VERSION, version);
});
