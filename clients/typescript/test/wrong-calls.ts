// Calls that the compiler must refuse: where it does not, `npm run check` fails at the comment above it.
import type { CatalogClient } from "../src/index.ts";

export async function wrong(catalog: CatalogClient): Promise<void> {
  // @ts-expect-error a field that is not there
  await catalog.getCustomer({ customer_idd: "1" });
  // @ts-expect-error a field that is missing
  await catalog.createCustomer({ name: "Ada" });
  // @ts-expect-error money is a text
  await catalog.placeOrder({ customer_id: "1", lines: [{ mnemonic: "A", quantity: 1, unit_price: 1 }] });
  // @ts-expect-error a query takes no messageId
  await catalog.getCustomer({ customer_id: "1" }, { messageId: "m" });
  // @ts-expect-error no such state
  await catalog.getCustomerOrders({ customer_id: "1", status: "teleported" });
  // @ts-expect-error queries are not sent without an answer
  await catalog.send.getCustomer({ customer_id: "1" });
  // @ts-expect-error no list
  catalog.iterate.getCustomer({ customer_id: "1" });
  // @ts-expect-error a payload is needed
  await catalog.createCustomer();
  // @ts-expect-error milliseconds are a number
  await catalog.createCustomer({ name: "Ada", email: "a@b.c" }, { timeoutMs: "1s" });
  // @ts-expect-error a delete answers nothing
  (await catalog.deleteCustomer({ customer_id: "1" })).id;
}

export async function right(catalog: CatalogClient): Promise<string> {
  await catalog.listProducts();
  await catalog.updateCustomer({ customer_id: "1", preferences: null }, { messageId: "m", timeoutMs: null });
  const order = await catalog.getOrder({ order_id: "1" });
  switch (order.status) {
    case "placed":
      return "placed";
    default:
      return order.status; // one unknown today
  }
}
