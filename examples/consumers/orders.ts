/**
 * Consumers for `hark listen`: one as a class, one as plain options.
 *
 *     deno task listen examples/consumers
 */
import { Consumer, type ConsumerOptions, type Notification } from "@hark/postgres";

/** The payload on the channel "orders". */
interface Order {
  readonly id: number;
}

/** Prints each order, and whether it was published before the consumer started. */
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
