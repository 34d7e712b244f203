/**
 * Consumers for `hark listen`: a class, and plain options.
 *
 *     deno task listen examples/consumers
 */
import { Consumer, type ConsumerOptions, type Notification } from "@hark/postgres";

/** What is published on "orders". */
interface Order {
  readonly id: number;
}

/** Prints each order, and whether it came while this ran or before. */
export class Orders extends Consumer<Order> {
  override readonly id = "orders-printer";
  override readonly channels = ["orders"];

  override handle({ id, payload, isReplay }: Notification<Order>): void {
    console.log(isReplay ? "replay" : "live", `#${id}`, payload);
  }
}

/** Counts orders. */
export const counter: ConsumerOptions<Order> = {
  id: "orders-counter",
  channels: "orders",
  handle: () => console.log("orders so far:", ++count),
};

let count = 0;
